"""Names for the frames of all samples, when everything is over; equal ones become one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from kepler_ebpf.kernel.layout import FRAME_IN_FILE
from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.profile.frames import (
    AT_ADDRESS,
    IN_KERNEL,
    SPECIAL,
    SPECIAL_FRAMES,
    processes_of,
)
from kepler_ebpf.profile.joined import Joined, merged
from kepler_ebpf.profile.model import Frame, Origin, Rows
from kepler_ebpf.profile.sampler import Sampler


class Naming(Protocol):
    """What finds names of frames."""

    def of_build_ids(self, build_ids: Records, offsets: Ints) -> list[Frame]:
        """Name frames in files, by build id (N,) of 20 bytes and offset (N,) in the file."""

    def of_addresses(self, pid: int, start_ns: int, addresses: Ints) -> list[Frame]:
        """Name frames at *addresses* (N,) of a process."""

    def of_kernel(self, addresses: Ints) -> list[Frame]:
        """Name frames at *addresses* (N,) in the kernel; the upper half is negative."""


class Picture(NamedTuple):
    """Rows whose stacks index ``stacks``, which index ``frames``."""

    frames: tuple[Frame, ...]
    stacks: tuple[tuple[int, ...], ...]
    rows: Rows


def pictured(sampler: Sampler, joined: Joined, naming: Naming) -> Picture:
    """Name the frames of all rows."""
    rows, stacks, raw = joined.rows, sampler.stacks, sampler.frames
    used, row_stack = np.unique(rows.stack, return_inverse=True)
    chosen = [stacks[number] for number in used.tolist()]
    in_use = np.flatnonzero(np.bincount(np.concatenate([*chosen, np.zeros(0, np.int32)])))
    names = _named(raw[in_use], naming)
    numbers: dict[Frame, int] = {}
    number_of = np.zeros(len(raw), np.int64)
    number_of[in_use] = [numbers.setdefault(frame, len(numbers)) for frame in names]
    found: dict[tuple[int, ...], int] = {}
    stack_of = [found.setdefault(tuple(number_of[stack].tolist()), len(found)) for stack in chosen]
    renumbered = replace(rows, stack=np.array(stack_of, np.int64)[row_stack])
    return Picture(tuple(numbers), tuple(found), merged(renumbered))


def _named(raw: Records, naming: Naming) -> list[Frame]:
    """Return the frame of each of *raw* (N,), of dtype ``kernel.layout.STACK_FRAME``."""
    frames = [Frame("[unknown]", "", Origin.NONE)] * len(raw)
    for index, named in _named_parts(raw, naming):
        for position, frame in zip(index.tolist(), named, strict=True):
            frames[position] = frame
    return frames


def _named_parts(raw: Records, naming: Naming) -> Iterator[tuple[Ints, list[Frame]]]:
    """Yield frames of *raw* that are named together: their indices and names."""
    kind, offset = raw["kind"], raw["offset"].astype(np.int64)
    index = np.flatnonzero(kind == SPECIAL)
    yield index, [Frame(SPECIAL_FRAMES[at], "", Origin.NONE) for at in offset[index].tolist()]
    index = np.flatnonzero(kind == IN_KERNEL)
    yield index, naming.of_kernel(offset[index])
    index = np.flatnonzero(kind == FRAME_IN_FILE)
    yield index, naming.of_build_ids(raw["build_id"][index], offset[index])
    index = np.flatnonzero(kind == AT_ADDRESS)
    processes = processes_of(raw[index])
    order = np.argsort(processes, order=("tgid", "start_ns"), kind="stable")
    index, processes = index[order], processes[order]
    starts = np.flatnonzero(processes[1:] != processes[:-1]) + 1
    for first, end in pairwise([0, *starts.tolist(), len(index)]):
        if first < end:
            process, part = processes[first], index[first:end]
            pid, start_ns = int(process["tgid"]), int(process["start_ns"])
            yield part, naming.of_addresses(pid, start_ns, offset[part])
