"""Samples joined with the account: each task's part of an interval is shared over its samples.

The account is exact and the samples are few. So the samples only say where in the code a task's
CPU time and energy went, never how much there was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints, Records
from kepler_ebpf.profile.frames import UNATTRIBUTED, UNSAMPLED, Sampled
from kepler_ebpf.profile.model import Process, Rows

MAX_ROWS = 1 << 19
"""With more rows than these, intervals are joined by twos, and at last the tasks of a process."""

MAX_PROCESSES = 1 << 16
"""Processes beyond these are one, ``OTHERS``."""

OTHERS = Process(0, 0, "[others]")
UNOWNED = Process(0, 0, "[unattributed]")


class Part(NamedTuple):
    """An interval's part of the account.

    ``start_ns`` and ``end_ns`` are on the monotonic clock. ``records`` (N,), of dtype
    ``kernel.layout.TASK``, are of the tasks that are profiled; ``cpu_ns`` (N,) and ``energy_uj``
    (N, kinds) are theirs. The ``others`` are of tasks that are not. ``unowned_ns`` and
    ``unowned_uj`` (kinds,) are of nobody.
    """

    start_ns: int
    end_ns: int
    records: Records
    others: Records
    cpu_ns: Floats
    energy_uj: Floats
    unowned_ns: float
    unowned_uj: Floats


class Joined:
    """All rows so far."""

    def __init__(self, kinds: int) -> None:
        """*kinds* is the number of kinds of zones."""
        self._blocks = [_no_rows(kinds)]
        self._bounds: list[tuple[int, int]] = []
        self._count, self._most = 0, MAX_ROWS
        self._processes: dict[tuple[int, int], int] = {}
        self._comms: list[Process] = [OTHERS, UNOWNED]
        self.unmatched = 0
        """How many samples were of a task without CPU time in their interval."""

    def add(self, part: Part, sampled: Sampled) -> None:
        """Join an interval's part of the account with the samples of that interval."""
        interval, records, heads = len(self._bounds), part.records, sampled.heads
        self._bounds.append((part.start_ns, part.end_ns))
        tasks, (of_record, of_other, of_sample) = _numbered(records, part.others, heads)
        counted = np.bincount(of_record, minlength=len(tasks)) > 0
        is_known = counted | (np.bincount(of_other, minlength=len(tasks)) > 0)
        self.unmatched += int((~is_known[of_sample]).sum())
        is_matched = counted[of_sample]
        task, stack, samples = _grouped(of_sample[is_matched], sampled.stack[is_matched])
        of_task = np.bincount(task, samples, len(tasks))
        unsampled = np.flatnonzero(counted & (of_task == 0))
        task = np.concatenate([task, unsampled])
        share = np.concatenate([samples / of_task[task[: len(samples)]], np.ones(len(unsampled))])
        energy_uj = np.zeros((len(tasks), part.energy_uj.shape[1]))
        np.add.at(energy_uj, of_record, part.energy_uj)
        cpu_ns = np.bincount(of_record, part.cpu_ns, len(tasks))
        last = np.zeros(len(tasks), np.int64)
        last[of_record] = np.arange(len(records))
        rows = Rows(
            interval=np.full(len(task), interval),
            process=self._of_records(records[last[task]]),
            tid=tasks[task],
            stack=np.concatenate([stack, np.full(len(unsampled), UNSAMPLED)]),
            samples=np.concatenate([samples, np.zeros(len(unsampled), np.int64)]),
            cpu_ns=cpu_ns[task] * share,
            energy_uj=energy_uj[task] * share[:, np.newaxis],
        )
        self._keep(rows)
        if part.unowned_ns or part.unowned_uj.any():
            self._keep(_unowned(interval, part))
        while self._count > self._most and len(self._bounds) > 1:
            self._join_by_twos()
        if len(self._bounds) == 1:
            self._most = max(MAX_ROWS, 2 * self._count)

    @property
    def rows(self) -> Rows:
        """All rows, whose stacks are those of the sampler."""
        return _concatenated(self._blocks)

    @property
    def bounds(self) -> tuple[Ints, Ints]:
        """Start and end of each interval, (intervals,) on the monotonic clock."""
        starts, ends = np.array(self._bounds, np.int64).reshape(-1, 2).T
        return starts, ends

    @property
    def processes(self) -> Sequence[Process]:
        """The processes of the rows."""
        return self._comms

    def _keep(self, rows: Rows) -> None:
        self._blocks.append(rows)
        self._count += len(rows.interval)

    def _of_records(self, records: Records) -> Ints:
        """Return the number of each record's process, which has the name of the last of them."""
        columns = [records[name].tolist() for name in ("tgid", "process_start_ns", "process_comm")]
        numbers = []
        for pid, start_ns, comm in zip(*columns, strict=True):
            number = self._processes.get((pid, start_ns))
            if number is None:
                number = 0
                if len(self._comms) < MAX_PROCESSES:
                    number = self._processes[pid, start_ns] = len(self._comms)
                    self._comms.append(OTHERS)
            if number:
                self._comms[number] = Process(pid, start_ns, comm.decode("utf-8", "replace"))
            numbers.append(number)
        return np.array(numbers, np.int64)

    def _join_by_twos(self) -> None:
        """Make one interval of two, and one row of those that differ in nothing else."""
        bounds = self._bounds
        self._bounds = [
            (bounds[first][0], bounds[min(first + 1, len(bounds) - 1)][1])
            for first in range(0, len(bounds), 2)
        ]
        rows = self.rows
        tid = rows.tid if len(bounds) > 1 else np.zeros_like(rows.tid)
        self._blocks = [merged(replace(rows, interval=rows.interval // 2, tid=tid))]
        self._count = len(self._blocks[0].interval)


def merged(rows: Rows) -> Rows:
    """Return one row for each interval, process, task and stack."""
    labels = np.stack([rows.interval, rows.process, rows.tid, rows.stack], axis=1)
    unique, index = np.unique(labels, axis=0, return_inverse=True)
    index = index.reshape(-1)
    energy_uj = np.zeros((len(unique), rows.energy_uj.shape[1]))
    np.add.at(energy_uj, index, rows.energy_uj)
    samples = np.bincount(index, rows.samples, len(unique)).astype(np.int64)
    cpu_ns: Floats = np.bincount(index, rows.cpu_ns, len(unique)).astype(np.float64)
    interval, process, tid, stack = unique.T.copy()
    return Rows(interval, process, tid, stack, samples, cpu_ns, energy_uj)


def _numbered(*parts: Records) -> tuple[Ints, list[Ints]]:
    """Return the pid of each task of some records, and for each part the records' tasks."""
    pid = np.concatenate([part["pid"] for part in parts]).astype(np.int64)
    start_ns = np.concatenate([part["start_ns"] for part in parts])
    order = np.lexsort((pid, start_ns))
    pid, start_ns = pid[order], start_ns[order]
    is_new = np.ones(len(pid), bool)
    is_new[1:] = (pid[1:] != pid[:-1]) | (start_ns[1:] != start_ns[:-1])
    index = np.empty(len(pid), np.int64)
    index[order] = np.cumsum(is_new) - 1
    return pid[is_new], np.split(index, np.cumsum([len(part) for part in parts[:-1]]))


def _grouped(task: Ints, stack: Ints) -> tuple[Ints, Ints, Ints]:
    """Return each pair of a task and a stack once, and how often it is there."""
    width = int(stack.max(initial=0)) + 1
    pairs, samples = np.unique(task * width + stack, return_counts=True)
    return pairs // width, pairs % width, samples


def _unowned(interval: int, part: Part) -> Rows:
    return Rows(
        interval=np.array([interval]),
        process=np.array([1]),
        tid=np.array([0]),
        stack=np.array([UNATTRIBUTED]),
        samples=np.array([0]),
        cpu_ns=np.array([part.unowned_ns]),
        energy_uj=part.unowned_uj[np.newaxis],
    )


def _no_rows(kinds: int) -> Rows:
    none = np.zeros(0, np.int64)
    return Rows(none, none, none, none, none, np.zeros(0), np.zeros((0, kinds)))


def _concatenated(blocks: list[Rows]) -> Rows:
    columns = zip(
        *([getattr(rows, name) for name in Rows.__slots__] for rows in blocks), strict=True
    )
    return Rows(*(np.concatenate(column) for column in columns))
