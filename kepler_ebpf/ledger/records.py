"""The records of a batch of intervals, as the ledger looks at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.ledger.arrays import run_starts
from kepler_ebpf.model.arrays import Bools, Floats, Ints, Records
from kepler_ebpf.model.attributed import Attribution

Weights = Floats
"""(records, kinds + 1): energy by kind in µJ, and then CPU ns."""

Starts = NDArray[np.uint64]
Pids = NDArray[np.uint32]

_PID_BITS = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """Several measured intervals in order of time, to be credited at once.

    ``records`` (N,) are those of all intervals (``layout.TASK``), and ``grid`` (N,) the number of
    the configured interval each belongs to, never falling. The *attribution* has shares (N, kinds)
    and the other figures (K, zones) of K measured intervals, whose numbers are ``interval_grid``
    (K,): a configured interval may be measured in parts, in one batch or in several.
    ``last_closed`` is the number of the last configured interval that has ended, None before the
    first. ``end_s`` is the monotonic end of the last measured interval.
    """

    records: Records
    grid: Ints
    attribution: Attribution
    interval_grid: Ints
    last_closed: int | None
    end_s: float


@dataclass(frozen=True, slots=True)
class LinkedRecords:
    """Records of at least one process with what the ledger found for them, one entry for each.

    ``containers`` are rows of containers, 0 for none. ``identities`` are those of the processes.
    ``parts`` are slices of the records, each with the number of its configured interval or None
    where no view will show that by itself.
    """

    tasks: Records
    grid: Ints
    containers: Ints
    weights: Weights
    identities: list[int]
    parts: list[tuple[slice, int | None]]


@dataclass(frozen=True, slots=True)
class ProcessGroups:
    """Records grouped by process.

    ``order`` (records,) are indexes of records, group after group; ``starts`` (groups,) index
    ``order``; ``newest`` (groups,) is the index of the newest record of each group. Groups are in
    the order in which the processes started.
    """

    order: Ints
    starts: Ints
    newest: Ints


def link(batch: Batch, containers: Ints) -> LinkedRecords:
    """Return the records of *batch*, in the *containers* (records,)."""
    tasks, shares_uj = batch.records, batch.attribution.shares_uj
    return LinkedRecords(
        tasks=tasks,
        grid=batch.grid,
        containers=containers,
        weights=np.column_stack((shares_uj, tasks["cpu_ns"])),
        identities=identities_of(tasks["tgid"], tasks["process_start_ns"]),
        parts=_parts(batch.grid, batch.last_closed),
    )


def identity_of(tgid: int, start_ns: int) -> int:
    """Return a number for a process: its start and its pid. 0 is none."""
    return start_ns << _PID_BITS | tgid


def identities_of(tgids: Pids, starts: Starts) -> list[int]:
    """Return the number of each process."""
    return [identity_of(*pair) for pair in zip(tgids.tolist(), starts.tolist(), strict=True)]


def ended(tasks: Records) -> Bools:
    """Return for each record whether its process has ended."""
    has_ended: Bools = (tasks["flags"] & FLAG_ENDED) != 0
    return has_ended


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
    order = index[by_process]
    first = run_starts(starts[by_process], tgids[by_process])
    return ProcessGroups(order, first, order[np.append(first[1:], len(order)) - 1])


def _parts(grid: Ints, last_closed: int | None) -> list[tuple[slice, int | None]]:
    """Split records into those of intervals before *last_closed*, and the others by interval."""
    first = 0 if last_closed is None else int(grid.searchsorted(last_closed))
    parts: list[tuple[slice, int | None]] = [(slice(0, first), None)] if first else []
    if first < len(grid):
        edges = [first + start for start in run_starts(grid[first:]).tolist()]
        parts += [
            (slice(start, stop), int(grid[start]))
            for start, stop in zip(edges, [*edges[1:], len(grid)], strict=True)
        ]
    return parts
