"""Rows of workloads: labels, totals since start, and the energy of the intervals that views show.

A row is used again once its workload is listed no longer. Labels are carried, never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np

from kepler_ebpf.ledger.arrays import frozen, sum_by_row
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.workloads import State, WorkloadView

Label = TypeVar("Label")

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


class Table(Generic[Label]):
    """The rows of one kind of workload.

    ``size`` rows are in use or gaps between such; the arrays have room for more. The first
    *reserved* rows have no label, are always there and are not in views. ``columns`` is a
    structured array with what the owner of the table keeps for each row; a gap has zeros.
    ``recent`` has the energy of the intervals that views show or will show. ``changes`` counts
    changes of rows and of their states.
    """

    def __init__(
        self, kinds: int, columns: Sequence[tuple[str, str]] = (), *, reserved: int = 0
    ) -> None:
        self.size = reserved
        self.labels: list[Label | None] = [None] * reserved
        self.energy_uj: Floats = np.zeros((START_ROWS, kinds))
        self.cpu_ns: Ints = np.zeros(START_ROWS, np.int64)
        self.state = np.full(START_ROWS, State.FREE, np.uint8)
        self.ended_s: Floats = np.zeros(START_ROWS)
        self.columns = np.zeros(START_ROWS, list(columns))
        self.recent: list[tuple[int, Ints, Floats]] = []
        self.changes = 0
        self._reserved = reserved
        self._now_s = 0.0
        self._last_closed: int | None = None
        self._free: list[int] = []
        self._label_tuple: tuple[Label | None, ...] | None = ()

    # --- rows

    def add(self, label: Label, values: Sequence[object] = ()) -> int:
        """Start a running workload in the lowest free row; *values* fill ``columns``."""
        row = self._free.pop() if self._free else self._append()
        self.set_state(row, State.RUNNING)
        self.columns[row] = tuple(values)
        self.set_label(row, label)
        return row

    def label(self, row: int) -> Label:
        """Return the label of a row in use."""
        return cast(Label, self.labels[row])

    def set_label(self, row: int, label: Label) -> None:
        """Show *label* for the row from the next view on."""
        self.labels[row] = label
        self._label_tuple = None

    def set_state(self, rows: int | Ints, state: State) -> None:
        """Note that workloads run or have ended; what still comes for ended ones is credited."""
        self.state[rows] = state
        if state == State.TERMINATED:
            self.ended_s[rows] = self._now_s
        self.changes += 1

    def due(self, keep: Retention, energy_uj: Floats) -> Ints:
        """Return the rows of ended workloads that are to be listed no longer.

        *energy_uj* (rows,) ranks them.
        """
        ended = np.flatnonzero(self.state[: self.size] == State.TERMINATED)
        if not len(ended):
            return ended
        recent = self._now_s - self.ended_s[ended] < keep.for_s
        return ended[~keep.chosen(recent, energy_uj[ended])]

    def move(self, rows: Ints, targets: Ints) -> None:
        """Add the totals and the recent energy of *rows* to the rows *targets*, and clear them."""
        self.add_from(self, rows, targets)
        self.energy_uj[rows], self.cpu_ns[rows] = 0.0, 0
        self.recent = [
            (grid, given[other], uj[other])
            for grid, given, uj in self.recent
            if (other := ~np.isin(given, rows)).any()
        ]

    def add_from(self, other: Table[Any], rows: Ints, targets: Ints, sign: int = 1) -> None:
        """Add what *rows* of a table have, or with *sign* -1 subtract it, to the rows *targets*."""
        np.add.at(self.energy_uj, targets, sign * other.energy_uj[rows])
        np.add.at(self.cpu_ns, targets, sign * other.cpu_ns[rows])
        order = rows.argsort()
        ordered = rows[order]
        for grid, given, uj in list(other.recent):
            index = ordered.searchsorted(given).clip(max=len(rows) - 1)
            match = ordered[index] == given
            if match.any():
                self.recent.append((grid, targets[order[index[match]]], sign * uj[match]))

    def release(self, rows: Ints) -> None:
        """Make rows free whose totals were moved."""
        self.set_state(rows, State.FREE)
        self.columns[rows] = np.zeros(1, self.columns.dtype)
        for row in rows.tolist():
            self.labels[row] = None
        self._label_tuple = None
        # Gaps at the end are dropped, so that the size of a view follows what is in use.
        is_free = self.state[: self.size] == State.FREE
        is_free[: self._reserved] = False
        used = np.flatnonzero(~is_free)
        self.size = int(used[-1]) + 1 if len(used) else 0
        del self.labels[self.size :]
        self._free = np.flatnonzero(is_free[: self.size])[::-1].tolist()

    # --- credit

    def credit(self, rows: Ints, weights: Floats, grid: int | None) -> None:
        """Add *weights* (records, kinds + 1), energy and then CPU ns, to the *rows* (records,).

        *grid* is the number of the configured interval, None where no view will show it by itself.
        """
        rows, sums = sum_by_row(rows, weights)
        self.energy_uj[rows] += sums[:, :-1]
        self.cpu_ns[rows] += sums[:, -1].astype(np.int64)
        if grid is not None:
            self.recent.append((grid, rows, sums[:, :-1]))

    def close(self, now_s: float, last_closed: int | None) -> None:
        """Show the interval *last_closed* in views from *now_s* on, or all where it is None."""
        self._now_s, self._last_closed = now_s, last_closed
        if last_closed is not None:
            self.recent = [part for part in self.recent if part[0] >= last_closed]

    def shown(self) -> list[tuple[Ints, Floats]]:
        """Return rows and energy of the parts of the last closed interval."""
        closed = self._last_closed
        return [(rows, uj) for grid, rows, uj in self.recent if closed is None or grid == closed]

    # --- views

    def make_view(
        self,
        totals: tuple[Floats, Ints],
        shown: list[tuple[Ints, Floats]],
        retired: tuple[Floats, int],
    ) -> WorkloadView:
        """Return the *totals* of all rows, and what they used in the last interval, as a view."""
        first = self._reserved
        if self._label_tuple is None:
            self._label_tuple = tuple(self.labels[first:])
        ran_rows, ran_uj = self._ran(shown)
        return WorkloadView(
            labels=self._label_tuple,
            energy_uj=frozen(totals[0][first : self.size].copy()),
            cpu_ns=frozen(totals[1][first : self.size].copy()),
            state=frozen(self.state[first : self.size].copy()),
            ran_rows=frozen(ran_rows),
            ran_uj=frozen(ran_uj),
            retired_uj=frozen(retired[0].copy()),
            retired_cpu_ns=retired[1],
        )

    # --- inside

    def _ran(self, shown: list[tuple[Ints, Floats]]) -> tuple[Ints, Floats]:
        """Return the rows in *shown* that views have, each once, and their energy."""
        if not shown:
            return np.zeros(0, np.int64), np.zeros((0, self.energy_uj.shape[1]))
        rows, uj = (np.concatenate(part) for part in zip(*shown, strict=True))
        in_view = rows >= self._reserved
        rows, uj = sum_by_row(rows[in_view] - self._reserved, uj[in_view])
        return rows, uj.clip(min=0.0)

    def _append(self) -> int:
        if self.size == len(self.state):
            self._grow()
        self.labels.append(None)
        self.size += 1
        return self.size - 1

    def _grow(self) -> None:
        for name in ("energy_uj", "cpu_ns", "state", "ended_s", "columns"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate((array, np.zeros_like(array))))
