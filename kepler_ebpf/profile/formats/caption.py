"""What a picture or a file says about itself: what was measured, how, and what is missing."""

from __future__ import annotations

import time
from dataclasses import replace

from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.profile.model import Profile

MAX_TEXT = 1000
"""Characters of a name that are kept: a C++ name may have thousands."""

PREFIXES = ((1e9, "kJ"), (1e6, "J"), (1e3, "mJ"), (1.0, "µJ"))


def cleaned(profile: Profile) -> Profile:
    """Return the profile with every name and sentence printable, on one line and not too long."""
    return replace(
        profile,
        frames=tuple(
            frame._replace(name=_clean(frame.name), module=_clean(frame.module))
            for frame in profile.frames
        ),
        processes=tuple(p._replace(comm=_clean(p.comm)) for p in profile.processes),
        subject=_clean(profile.subject),
        notes=tuple(map(_clean, profile.notes)),
        host={_clean(name): _clean(value) for name, value in profile.host.items()},
    )


def _clean(text: str) -> str:
    kept = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    if kept.isprintable():
        return kept
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
        for char in kept
    )


def total_uj(profile: Profile, kind: str) -> float:
    """Return the energy of everything that was profiled, in microjoules."""
    return float(profile.rows.energy_uj[:, profile.kinds.index(kind)].sum())


def duration_s(profile: Profile) -> float:
    """Return the seconds from the first interval's start to the last one's end."""
    if not len(profile.start_ns):
        return 0.0
    return float(profile.end_ns[-1] - profile.start_ns[0]) / NS_PER_S


def energy(uj: float) -> str:
    """Return energy with a unit of its size and four digits that count."""
    scale, unit = next((p for p in PREFIXES if uj >= p[0]), PREFIXES[-1])
    return f"{_four_digits(uj / scale)} {unit}"


def _four_digits(value: float) -> str:
    return f"{value:.{max(0, 4 - len(f'{value:.0f}'))}f}"


def title(profile: Profile, kind: str) -> str:
    """Return one line: the energy, the kind of zone, what it is of, and ESTIMATE where it is."""
    estimate = " ESTIMATE" if profile.is_estimate else ""
    return f"{energy(total_uj(profile, kind))}{estimate} ({kind}) of {profile.subject}"


def facts(profile: Profile, kind: str) -> tuple[str, ...]:
    """Return figures of the whole, each as a few words."""
    uj, seconds = total_uj(profile, kind), duration_s(profile)
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(profile.began_at_s))
    return (
        *([f"{_four_digits(uj / UJ_PER_J / seconds)} W mean"] if seconds else []),
        f"{seconds:.2f} s",
        f"{profile.rows.cpu_ns.sum() / NS_PER_S:.2f} CPU s",
        f"{profile.rows.samples.sum():,} samples at {profile.frequency_hz} Hz",
        f"meter {profile.meter}",
        *(f"{name} {value}" for name, value in profile.host.items() if value),
        moment,
    )


def remarks(profile: Profile) -> tuple[str, ...]:
    """Return sentences about what is estimated, lost or missing."""
    estimate = (
        f"The energy is an estimate (meter {profile.meter}): it follows CPU time alone, and "
        "nothing was measured."
    )
    counts = ", ".join(f"{name} {count:,}" for name, count in profile.counts.items() if count)
    return (
        *([estimate] if profile.is_estimate else []),
        *profile.notes,
        *([f"Counts: {counts}."] if counts else []),
    )
