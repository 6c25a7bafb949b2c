"""A profile in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kepler_ebpf.profile.formats.caption import cleaned, energy, facts, remarks, title
from kepler_ebpf.profile.model import Profile

TOP = 10


def summary(profile: Profile, kind: str) -> str:
    """Return the answer first: the energy of a kind of zone, and the functions that used most."""
    return "".join(f" {line}\n" for line in _lines(cleaned(profile), kind))


def _lines(profile: Profile, kind: str) -> Iterator[str]:
    yield title(profile, kind)
    yield "; ".join(facts(profile, kind))
    energy_uj = profile.rows.energy_uj[:, profile.kinds.index(kind)]
    total_uj = float(energy_uj.sum())
    leaf = np.array([stack[-1] for stack in profile.stacks], np.int64)[profile.rows.stack]
    of_frame = np.bincount(leaf, energy_uj, len(profile.frames))
    for number in np.argsort(-of_frame, kind="stable")[:TOP].tolist():
        frame, uj = profile.frames[number], float(of_frame[number])
        if uj > 0:
            where = f"  ({frame.module})" if frame.module else ""
            yield f"{uj / total_uj:7.1%}  {energy(uj):>9}  {frame.name}{where}"
    yield from remarks(profile)
