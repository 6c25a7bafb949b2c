"""The records of a batch of intervals, as the ledger looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model.arrays import Bools, Floats, Ints, Records
from kepler_ebpf.model.attributed import Attribution

Starts = NDArray[np.uint64]
Pids = NDArray[np.uint32]

_PID_BITS = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """Several measured intervals in order of time, to be credited at once.

    ``records`` (N,) are those of all intervals (``layout.TASK``), and ``grid`` (N,) the number of
    the configured interval each belongs to, never falling. The *attribution* has shares (N, kinds)
    and the other figures (K, zones) of K measured intervals, whose numbers are ``interval_grid``
    (K,): a configured interval may be measured in parts, in one batch or in several. ``shown`` is
    the number of the last configured interval that has ended, 0 before the first has; at most one
    after it has begun. ``end_s`` is the monotonic end of the last measured interval.
    """

    records: Records
    grid: Ints
    attribution: Attribution
    interval_grid: Ints
    shown: int
    end_s: float


class LinkedRecords(NamedTuple):
    """Records of at least one process with what the ledger found for them, one entry for each.

    ``containers`` are rows of containers, 0 for none. ``are_wanted`` (records,) is whether the
    cgroup of each is one whose processes are listed. ``weights`` (records, kinds + 1) have energy
    by kind in µJ, and then CPU ns. ``identities`` are those of the processes. ``recent`` are the
    slices of the interval that views show, and of the one after it; either may be empty.
    """

    tasks: Records
    grid: Ints
    containers: Ints
    are_wanted: Bools
    weights: Floats
    identities: list[int]
    recent: tuple[slice, slice]


class ProcessGroups(NamedTuple):
    """Records grouped by process.

    ``order`` (records,) are indexes of records, group after group; ``starts`` (groups,) index
    ``order``; ``newest`` (groups,) is the index of the newest record of each group. Groups are in
    the order in which the processes started.
    """

    order: Ints
    starts: Ints
    newest: Ints


def link(batch: Batch, containers: Ints, are_wanted: Bools) -> LinkedRecords:
    """Return the records of *batch*, in the *containers* (records,)."""
    tasks, grid = batch.records, batch.grid
    edges = grid.searchsorted((batch.shown, batch.shown + 1)).tolist()
    return LinkedRecords(
        tasks=tasks,
        grid=grid,
        containers=containers,
        are_wanted=are_wanted,
        weights=np.column_stack((batch.attribution.shares_uj, tasks["cpu_ns"])),
        identities=identities_of(tasks["tgid"], tasks["process_start_ns"]),
        recent=(slice(*edges), slice(edges[1], len(grid))),
    )


def comm_of(task: Records) -> str:
    """Return the name of a record's process, as valid text."""
    return bytes(task["process_comm"]).decode("utf-8", "replace")


def identity_of(tgid: int, start_ns: int) -> int:
    """Return a number for a process: its start and its pid. 0 is none."""
    return start_ns << _PID_BITS | tgid


def pid_of(identity: int) -> int:
    """Return the pid of a process from its number."""
    return identity & (1 << _PID_BITS) - 1


def identities_of(tgids: Pids, starts: Starts) -> list[int]:
    """Return the number of each process."""
    # Spelled out: a call for each record is most of the cost.
    pairs = zip(tgids.tolist(), starts.tolist(), strict=True)
    return [start_ns << _PID_BITS | tgid for tgid, start_ns in pairs]


def group_by_process(records: LinkedRecords, index: Ints, preferred: Bools) -> ProcessGroups:
    """Group the records at *index*, at least one.

    The newest of a process's records is one made after its last exec, in its last interval. The
    order within an interval is not known: there one that is *preferred* (records at *index*,) is
    chosen, or else the one with most CPU time.
    """
    tasks = records.tasks[index]
    starts, tgids = tasks["process_start_ns"], tasks["tgid"]
    by_process = np.lexsort(
        (tasks["cpu_ns"], preferred, records.grid[index], tasks["exec_id"], tgids, starts)
    )
    order, starts, tgids = index[by_process], starts[by_process], tgids[by_process]
    is_last = np.append((starts[1:] != starts[:-1]) | (tgids[1:] != tgids[:-1]), True)
    last = is_last.nonzero()[0]
    return ProcessGroups(order, np.append(0, last[:-1] + 1), order[last])
