"""What a picture does not show: code without names, and stacks that end too early."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from kepler_ebpf.model.arrays import Bools, Floats
from kepler_ebpf.profile.assembled import Picture
from kepler_ebpf.profile.frames import SPECIAL_FRAMES, UNSAMPLED
from kepler_ebpf.profile.model import Frame, Origin

MAX_BROKEN_DEPTH = 2
"""A stack with no more frames in user space has probably lost the callers."""

MIN_SHARE = 0.01
"""Of the energy: less is not worth a sentence."""

MAX_BINARIES = 5

ROOTS = frozenset(
    ("main", "_start", "start_thread", "clone", "clone3", "__clone", "_dl_start", "_dl_start_user")
)
"""Functions that begin a thread: with one of them, a short stack is whole."""


def unnamed(picture: Picture) -> Bools:
    """Return which rows (N,) were sampled in code whose function is not known."""
    leaf = [picture.frames[stack[-1]].name for stack in picture.stacks]
    is_named = np.array([not name.startswith("[") for name in leaf], bool)
    named: Bools = is_named[picture.rows.stack]
    return ~named & (picture.rows.samples > 0)


def broken(picture: Picture) -> dict[str, Bools]:
    """Return which rows (N,) have a stack that ends too early, by the file of the last frame."""
    file_of = np.array([_broken_in(picture, stack) for stack in picture.stacks], object)
    of_rows = file_of[picture.rows.stack] if len(file_of) else file_of
    found = dict.fromkeys(file for file in file_of.tolist() if file)
    return {file: of_rows == file for file in found}


def sentences(picture: Picture, energy_uj: Floats) -> Iterator[str]:
    """Yield what is missing, with what to do; *energy_uj* (N,) is that of each row."""
    total_uj = float(energy_uj.sum()) or 1.0
    unsampled = float(energy_uj[_leaves(picture, SPECIAL_FRAMES[UNSAMPLED])].sum()) / total_uj
    if unsampled >= MIN_SHARE:
        yield (
            f"{unsampled:.1%} of the energy is of tasks that were not sampled, as they ran for too "
            "short a time: sample more often, with -F 997."
        )
    shares = {
        file: float(energy_uj[rows].sum()) / total_uj for file, rows in broken(picture).items()
    }
    if sum(shares.values()) >= MIN_SHARE:
        largest = sorted(shares, key=shares.__getitem__, reverse=True)[:MAX_BINARIES]
        listed = ", ".join(f"{file} {shares[file]:.1%}" for file in largest)
        yield (
            f"{sum(shares.values()):.1%} of the energy has stacks that end after "
            f"{MAX_BROKEN_DEPTH} frames or fewer, so that callers are missing: {listed}. Build "
            "with -fno-omit-frame-pointer; use Python 3.15, or one with frame pointers and -X perf."
        )


def _leaves(picture: Picture, name: str) -> Bools:
    """Return which rows (N,) are in a frame of that name."""
    chosen = np.array([picture.frames[stack[-1]].name == name for stack in picture.stacks], bool)
    of_rows: Bools = chosen[picture.rows.stack]
    return of_rows


def _broken_in(picture: Picture, stack: tuple[int, ...]) -> str:
    """Return the file in which a stack ends too early, "" where it does not."""
    user = [frame for number in stack if _is_user(frame := picture.frames[number])]
    if not 0 < len(user) <= MAX_BROKEN_DEPTH or any(frame.name in ROOTS for frame in user):
        return ""
    return os.path.basename(user[-1].module) or user[-1].name  # noqa: PTH119 - a text


def _is_user(frame: Frame) -> bool:
    known = frame.origin in {Origin.USER, Origin.JIT}
    return known or (frame.origin is Origin.NONE and frame.name not in SPECIAL_FRAMES)
