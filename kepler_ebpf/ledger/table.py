"""Totals of the workloads of one kind: a row for each, reused once it is not listed any more.

Whatever is credited stays here, in a row or among the retired. Nothing here knows what a workload
is: labels are carried, never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.ledger.identity_index import NO_ROW
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.workloads import State, WorkloadView

Label = TypeVar("Label")
Array = TypeVar("Array", bound=NDArray[Any])

RETIRED = -1
"""The row of an ended workload that is not listed: what it is given is retired."""

START_ROWS = 64


@dataclass(frozen=True, slots=True)
class Retention:
    """Which ended workloads stay listed.

    They stay for ``for_s`` seconds, at most ``most`` of them (0: none, negative: no limit), the
    ones with the highest energy first, and only with at least ``min_uj`` in the ranking zone.
    """

    for_s: float
    most: int
    min_uj: float

    def chosen(self, candidates: Bools, energy_uj: Floats) -> Bools:
        """Return which of *candidates* have enough energy and are among the highest."""
        chosen: Bools = candidates & (energy_uj >= self.min_uj)
        if 0 <= self.most < np.count_nonzero(chosen):
            ranked = np.argsort(np.where(chosen, -energy_uj, np.inf), kind="stable")
            chosen[ranked[self.most :]] = False
        return chosen


@dataclass(frozen=True, slots=True)
class EnergyColumns:
    """How many zone kinds there are, and the column that ranks ended workloads."""

    kinds: int
    rank: int


def frozen(array: Array) -> Array:
    """Return *array*, read-only from now on."""
    array.setflags(write=False)
    return array


def run_starts(*ordered: NDArray[Any]) -> Ints:
    """Return where each run of equal entries begins; *ordered* are sorted columns, not empty."""
    first: Bools = np.ones(len(ordered[0]), np.bool_)
    np.not_equal(ordered[0][1:], ordered[0][:-1], out=first[1:])
    for column in ordered[1:]:
        first[1:] |= column[1:] != column[:-1]
    return first.nonzero()[0]


def retire_links(links: Ints, gone: Ints) -> None:
    """Let what still points at the rows *gone* be retired."""
    links[np.isin(links, gone)] = RETIRED


def sum_by_row(rows: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Sum *weights* (records, columns) by row: the distinct rows in order, and their sums.

    Nothing comes of records that all have no row.
    """
    if len(rows) == 0 or rows.max() == NO_ROW:
        return rows[:0], weights[:0]
    order = rows.argsort(kind="stable")
    ordered = rows[order]
    starts = run_starts(ordered)
    return ordered[starts], np.add.reduceat(weights[order], starts, axis=0)


class WorkloadTable(Generic[Label]):
    """The rows of one kind of workload.

    ``size`` rows are in use or gaps between such; the arrays have room for more. ``columns`` is
    a structured array with what the owner of the table keeps for each row.
    """

    def __init__(self, energy: EnergyColumns, columns: Sequence[tuple[str, str]] = ()) -> None:
        self.size = 0
        self.labels: list[Label | None] = []
        self.energy_uj: Floats = np.zeros((START_ROWS, energy.kinds))
        self.cpu_ns: Ints = np.zeros(START_ROWS, np.int64)
        self.state = np.full(START_ROWS, State.FREE, np.uint8)
        self.ended_s: Floats = np.zeros(START_ROWS)
        self.columns = np.zeros(START_ROWS, list(columns))
        self._rank = energy.rank
        self._ended = 0
        self._released = False
        self._retired_uj: Floats = frozen(np.zeros(energy.kinds))
        self._retired_cpu_ns = 0
        self._free: list[int] = []
        self._pending: list[tuple[Ints, Floats]] = []
        self._ran_rows: Ints = frozen(np.zeros(0, np.int64))
        self._ran_uj: Floats = frozen(np.zeros((0, energy.kinds)))
        self._label_tuple: tuple[Label | None, ...] | None = ()
        self._view: WorkloadView | None = None

    # --- rows

    def add(self, label: Label, values: Sequence[object] = ()) -> int:
        """Start a running workload in the lowest free row; *values* fill ``columns``."""
        row = self._free.pop() if self._free else self._append()
        self.state[row] = State.RUNNING
        self.columns[row] = tuple(values)
        self.set_label(row, label)
        return row

    def label(self, row: int) -> Label:
        """Return the label of a row in use."""
        return cast(Label, self.labels[row])

    def set_label(self, row: int, label: Label) -> None:
        """Show *label* for the row from the next view on."""
        self.labels[row] = label
        self._label_tuple = self._view = None

    def end(self, rows: Ints, now_s: float) -> None:
        """Mark running workloads as ended at *now_s*; what still comes for them is credited."""
        self._ended += len(rows)
        self.state[rows] = State.TERMINATED
        self.ended_s[rows] = now_s
        self._view = None

    def start_again(self, row: int) -> None:
        """Have a workload that is listed run, whether it had ended or not."""
        self._ended -= int(self.state[row] == State.TERMINATED)
        self.state[row] = State.RUNNING
        self._view = None

    def due(self, now_s: float, keep: Retention) -> Ints:
        """Return the rows of ended workloads that are to be listed no longer."""
        if not self._ended:
            return np.zeros(0, np.int64)
        ended = np.flatnonzero(self.state[: self.size] == State.TERMINATED)
        recent = now_s - self.ended_s[ended] < keep.for_s
        gone: Ints = ended[~keep.chosen(recent, self.energy_uj[ended, self._rank])]
        return gone

    def release(self, rows: Ints) -> None:
        """Fold the totals of *rows*, all ended, and make the rows free."""
        self._ended -= len(rows)
        self._released = True
        self._fold(self.energy_uj[rows].sum(axis=0), int(self.cpu_ns[rows].sum()))
        self.energy_uj[rows] = 0.0
        self.cpu_ns[rows] = 0
        self.state[rows] = State.FREE
        for row in rows.tolist():
            self.labels[row] = None
        self._label_tuple = None
        self._collect_gaps()

    # --- credit

    def credit(self, rows: Ints, weights: Floats, part: float = 1.0) -> tuple[Ints, Floats]:
        """Add *weights* (records, kinds + 1), energy and then CPU ns, to the *rows* (records,).

        *part* of the energy is the current interval's, the rest belongs to earlier ones.
        ``NO_ROW`` drops a record, ``RETIRED`` folds it. Returns the distinct listed rows and
        what each was given.
        """
        rows, sums = sum_by_row(rows, weights)
        if len(rows) and rows[0] < 0:
            listed = int(rows.searchsorted(0))
            retired = sums[:listed][rows[:listed] == RETIRED].sum(axis=0)
            self._fold(retired[:-1], int(retired[-1]))
            rows, sums = rows[listed:], sums[listed:]
        if len(rows):
            self.energy_uj[rows] += sums[:, :-1]
            self.cpu_ns[rows] += sums[:, -1].astype(np.int64)
            self._pending.append((rows, sums[:, :-1] if part == 1.0 else sums[:, :-1] * part))
            self._view = None
        return rows, sums

    def carry_over(self, row: int, energy_uj: Floats, cpu_ns: int) -> None:
        """Add what a new member had been given before it was known to belong to the row."""
        self.energy_uj[row] += energy_uj
        self.cpu_ns[row] += cpu_ns
        self._view = None

    def leave_cpu_time(self, row: int, heir: int) -> None:
        """Move the CPU time of a row to another."""
        self.cpu_ns[heir] += self.cpu_ns[row]
        self.cpu_ns[row] = 0
        self._view = None

    def close_interval(self) -> None:
        """Make what was credited since the last call the last interval of the views."""
        if not self._pending and not len(self._ran_rows):
            return
        rows, ran_uj = self._interval()
        if self._released:
            listed = self.state[rows] != State.FREE
            rows, ran_uj = rows[listed], ran_uj[listed]
        self._ran_rows, self._ran_uj = frozen(rows), frozen(ran_uj)
        self._pending, self._released = [], False
        self._view = None

    def view(self) -> WorkloadView:
        """Return the totals now and the last closed interval; the same object until they change."""
        if self._view is None:
            self._view = self._make_view()
        return self._view

    # --- inside

    def _make_view(self) -> WorkloadView:
        if self._label_tuple is None:
            self._label_tuple = tuple(self.labels)
        return WorkloadView(
            labels=self._label_tuple,
            energy_uj=frozen(self.energy_uj[: self.size].copy()),
            cpu_ns=frozen(self.cpu_ns[: self.size].copy()),
            state=frozen(self.state[: self.size].copy()),
            ran_rows=self._ran_rows,
            ran_uj=self._ran_uj,
            retired_uj=self._retired_uj,
            retired_cpu_ns=self._retired_cpu_ns,
        )

    def _interval(self) -> tuple[Ints, Floats]:
        """Return the rows credited since the last close, each once, and their energy."""
        if len(self._pending) == 1:
            return self._pending[0]
        if not self._pending:
            return self._ran_rows[:0], self._ran_uj[:0]
        rows, weights = zip(*self._pending, strict=True)
        return sum_by_row(np.concatenate(rows), np.concatenate(weights))

    def _fold(self, energy_uj: Floats, cpu_ns: int) -> None:
        self._retired_uj = frozen(self._retired_uj + energy_uj)
        self._retired_cpu_ns += cpu_ns
        self._view = None

    def _append(self) -> int:
        if self.size == len(self.state):
            self._grow()
        self.labels.append(None)
        self.size += 1
        return self.size - 1

    def _grow(self) -> None:
        self.energy_uj = np.concatenate((self.energy_uj, np.zeros_like(self.energy_uj)))
        self.cpu_ns = np.concatenate((self.cpu_ns, np.zeros_like(self.cpu_ns)))
        self.state = np.concatenate((self.state, np.full_like(self.state, State.FREE)))
        self.ended_s = np.concatenate((self.ended_s, np.zeros_like(self.ended_s)))
        self.columns = np.concatenate((self.columns, np.zeros_like(self.columns)))

    def _collect_gaps(self) -> None:
        """Drop free rows from the end and list the others, so that a view's size follows use."""
        used = np.flatnonzero(self.state[: self.size] != State.FREE)
        self.size = int(used[-1]) + 1 if len(used) else 0
        del self.labels[self.size :]
        gaps = np.flatnonzero(self.state[: self.size] == State.FREE)
        self._free = gaps[::-1].tolist()
