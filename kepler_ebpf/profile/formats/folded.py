"""Folded stacks: a line for each program and stack, for flamegraph.pl and inferno."""

from __future__ import annotations

from collections import Counter

from kepler_ebpf.profile.formats.merged import merged, whole
from kepler_ebpf.profile.model import Frame, Origin, Profile

SUFFIXES = {Origin.KERNEL: "_[k]", Origin.JIT: "_[j]"}
"""What readers colour frames by."""


def write(profile: Profile, kind: str) -> bytes:
    """Return lines of ``program;outermost;…;innermost MICROJOULES``, the largest first."""
    found = merged(profile)
    energy_uj = whole(found.energy_uj[:, profile.kinds.index(kind)])
    names = [_word(frame) for frame in profile.frames]
    lines: Counter[str] = Counter()
    for process, stack, uj in zip(found.process, found.stack, energy_uj.tolist(), strict=True):
        program = _separable(profile.processes[process].comm)
        lines[";".join([program, *(names[index] for index in profile.stacks[stack])])] += uj
    return "".join(f"{line} {uj}\n" for line, uj in lines.most_common() if uj).encode()


def _word(frame: Frame) -> str:
    return _separable(frame.name) + SUFFIXES.get(frame.origin, "")


def _separable(name: str) -> str:
    return name.replace(";", ":")
