"""The profile of everything that was recorded, with what it does not show."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, MeterStats
from kepler_ebpf.profile.assembled import Naming, Picture, pictured
from kepler_ebpf.profile.findings import broken, sentences, unnamed
from kepler_ebpf.profile.model import Profile
from kepler_ebpf.profile.recorder import Recorder

LEAST_SHARE = 0.0005
MIN_UNTRACKED_S = 0.001
"""Less is not worth a sentence: of the energy, and of CPU time."""


class About(NamedTuple):
    """What the samples do not say. ``kind`` is the kind of zone that sentences are about."""

    subject: str
    kinds: tuple[str, ...]
    kind: str
    meter: MeterStats
    frequency_hz: int
    host: Mapping[str, str]


class Noting(Naming, Protocol):
    """What finds names of frames, and says which it could not find."""

    def notes(self) -> tuple[str, ...]:
        """Return sentences about names that are missing, with what to do."""


def profile_of(recorder: Recorder, naming: Noting, about: About) -> Profile:
    """Put the profile together; nothing may be recorded meanwhile."""
    picture = pictured(recorder.sampler, recorder.joined, naming)
    energy_uj = picture.rows.energy_uj[:, about.kinds.index(about.kind)]
    start_ns, end_ns = recorder.joined.bounds
    ago_ns = time.monotonic_ns() - int(start_ns[0]) if len(start_ns) else 0
    return Profile(
        frames=picture.frames,
        stacks=picture.stacks,
        processes=tuple(recorder.joined.processes),
        rows=picture.rows,
        start_ns=start_ns,
        end_ns=end_ns,
        began_at_s=time.time() - ago_ns / NS_PER_S,
        kinds=about.kinds,
        subject=about.subject,
        meter=about.meter.name,
        is_estimate=about.meter.is_estimate,
        frequency_hz=about.frequency_hz,
        host=about.host,
        notes=(*_notes(recorder, picture, energy_uj), *naming.notes()),
        counts=_counts(recorder, picture),
    )


def _counts(recorder: Recorder, picture: Picture) -> dict[str, int]:
    samples = picture.rows.samples
    return {
        "samples lost": recorder.samples.lost,
        "samples of tasks without CPU time": recorder.joined.unmatched,
        "samples without a function's name": int(samples[unnamed(picture)].sum()),
        "samples with a broken stack": sum(
            int(samples[at].sum()) for at in broken(picture).values()
        ),
        "frames known by address only": recorder.sampler.frames_at_addresses,
    }


def _notes(recorder: Recorder, picture: Picture, energy_uj: Floats) -> Iterator[str]:
    share = float(energy_uj[unnamed(picture)].sum()) / (float(energy_uj.sum()) or 1.0)
    if share > LEAST_SHARE:
        yield f"{share:.1%} of the energy is of code whose function is not known."
    yield from sentences(picture, energy_uj)
    untracked_s = recorder.untracked_ns / NS_PER_S
    if untracked_s > MIN_UNTRACKED_S:
        yield (
            f"{untracked_s:.3f} s of the machine's CPU time could not be tracked by task: some of "
            "it may belong here."
        )
