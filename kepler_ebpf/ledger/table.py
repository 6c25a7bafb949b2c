"""Rows of workloads: labels, totals since start, and the energy of the interval that views show.

A row is used again once its workload is listed no longer. Labels are carried, never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.ledger.places import Places
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.workloads import State, WorkloadView

Label = TypeVar("Label")
Array = TypeVar("Array", bound=NDArray[Any])

START_ROWS = 64

RETIRED_ROW = 0
"""Of processes: the row with those of no container that are listed no longer."""

SHOWN, OPEN = 0, 1
"""Indexes in ``Table.recent``: the interval that views show, and the one after it."""


class Retention(NamedTuple):
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
    structured array with what the user of the table keeps for each row; a gap has zeros.
    ``cpu_ns`` is exact up to 104 days of CPU time, to the sixteenth digit beyond, and never wraps.
    ``recent`` (rows, 2, kinds + 1) has the energy and the CPU time of two intervals: the one that
    views show, and the one after it. ``changes`` counts changes of rows and of their states.
    ``now_s`` is when the batch ended.
    """

    ARRAYS: tuple[str, ...] = ("energy_uj", "cpu_ns", "recent", "state", "ended_s", "columns")
    """The attributes that are arrays with an entry for each row."""

    def __init__(
        self,
        kinds: int,
        places: Places,
        columns: Sequence[tuple[str, str]] = (),
        *,
        reserved: int = 0,
    ) -> None:
        self.places = places
        self.size = reserved
        self.labels: list[Label | None] = [None] * reserved
        self.energy_uj: Floats = np.zeros((START_ROWS, kinds))
        self.cpu_ns: Floats = np.zeros(START_ROWS)
        self.recent: Floats = np.zeros((START_ROWS, 2, kinds + 1))
        self.state = np.full(START_ROWS, State.FREE, np.uint8)
        self.ended_s: Floats = np.zeros(START_ROWS)
        self.columns = np.zeros(START_ROWS, list(columns))
        self.changes = 0
        self._reserved = reserved
        self.now_s, self._shown = 0.0, 0
        self._free: list[int] = []
        self._label_tuple: tuple[Label | None, ...] | None = ()

    # --- rows

    def add(self, label: Label, owner: str | None = None) -> int:
        """Start a running workload in the lowest free row, with zeros in ``columns``.

        It takes a place of its *owner*; None takes none.
        """
        if not self._free:
            if self.size == len(self.state):
                for name in self.ARRAYS:
                    array = getattr(self, name)
                    setattr(self, name, np.concatenate((array, np.zeros_like(array))))
            self._free.append(self.size)
            self.labels.append(None)
            self.size += 1
        row = self._free.pop()
        if owner is not None:
            self.places.take(row, owner)
        self.set_state(row, State.RUNNING)
        self.set_label(row, label)
        return row

    def label(self, row: int) -> Label:
        """Return the label of a row in use."""
        return cast(Label, self.labels[row])

    def set_label(self, row: int, label: Label) -> None:
        """Show *label* for the row from the next view on."""
        if label != self.labels[row]:
            self.labels[row] = label
            self._label_tuple = None

    def set_state(self, rows: int | Ints, state: State) -> None:
        """Note that workloads run or have ended; what still comes for ended ones is credited."""
        self.state[rows] = state
        if state == State.TERMINATED:
            self.ended_s[rows] = self.now_s
        self.changes += 1

    def due(self, keep: Retention, rank: int) -> Ints:
        """Return the rows of ended workloads to be listed no longer; the kind *rank* ranks them."""
        ended = np.flatnonzero(self.state[: self.size] == State.TERMINATED)
        in_time = self.now_s - self.ended_s[ended] < keep.for_s
        return ended[~keep.chosen(in_time, self.energy_uj[ended, rank])]

    def add_from(self, other: Table[Any], rows: Ints, targets: Ints) -> None:
        """Add what *rows* of a table have to the rows *targets*."""
        for mine, given in zip(self.figures, other.figures, strict=True):
            np.add.at(mine, targets, given[rows])

    def move(self, rows: Ints, targets: Ints) -> None:
        """Add what *rows* have to the rows *targets*, and make *rows* free."""
        self.add_from(self, rows, targets)
        for array in (getattr(self, name) for name in self.ARRAYS):
            array[rows] = np.zeros(1, array.dtype)
        for row in rows.tolist():
            self.labels[row] = None
            self.places.leave(row)
        self._label_tuple = None
        self.set_state(rows, State.FREE)
        # Gaps at the end are dropped, so that the size of a view follows what is in use.
        is_free = self.state[: self.size] == State.FREE
        is_free[: self._reserved] = False
        used = np.flatnonzero(~is_free)
        self.size = int(used[-1]) + 1 if len(used) else 0
        del self.labels[self.size :]
        self._free = np.flatnonzero(is_free[: self.size])[::-1].tolist()

    # --- figures

    @property
    def figures(self) -> tuple[Floats, Floats, Floats]:
        """What is counted for each row."""
        return self.energy_uj, self.cpu_ns, self.recent

    def begin(self, now_s: float, shown: int) -> None:
        """Start a batch that ends at *now_s*, after which views show the interval *shown*."""
        for _ in range(min(shown - self._shown, 2)):
            self.recent[:, SHOWN] = self.recent[:, OPEN]
            self.recent[:, OPEN] = 0.0
        self.now_s, self._shown = now_s, shown

    def credit(self, rows: Ints, weights: Floats, recent: tuple[slice, slice]) -> None:
        """Add *weights* (records, kinds + 1), energy and then CPU ns, to the *rows* (records,).

        The slices *recent* are the records of the intervals in ``recent``; either may be empty.
        """
        given = self._sum_by_row(rows, weights)
        self.energy_uj += given[:, :-1]
        self.cpu_ns += given[:, -1]
        for index, part in enumerate(recent):
            if part.start < part.stop:
                self.recent[:, index] += self._sum_by_row(rows[part], weights[part])

    def make_view(self, retired: list[int]) -> WorkloadView:
        """Return the totals of all rows, and what they used in the interval that is shown.

        The rows *retired* have what those used that are listed no longer.
        """
        listed = slice(self._reserved, self.size)
        if self._label_tuple is None:
            self._label_tuple = tuple(self.labels[listed])
        shown = self.recent[listed, SHOWN]
        ran_rows = np.flatnonzero(shown[:, -1])
        return WorkloadView(
            labels=self._label_tuple,
            energy_uj=frozen(self.energy_uj[listed].copy()),
            cpu_ns=frozen(self.cpu_ns[listed].copy()),
            state=frozen(self.state[listed].copy()),
            ran_rows=frozen(ran_rows),
            ran_uj=frozen(shown[ran_rows, :-1]),
            ran_cpu_ns=frozen(shown[ran_rows, -1]),
            retired_uj=frozen(self.energy_uj[retired].sum(axis=0)),
            retired_cpu_ns=float(self.cpu_ns[retired].sum()),
        )

    def _sum_by_row(self, rows: Ints, weights: Floats) -> Floats:
        """Sum *weights* (records, columns) by row: (rows, columns)."""
        return np.column_stack([np.bincount(rows, part, len(self.state)) for part in weights.T])


def frozen(array: Array) -> Array:
    """Return *array*, read-only from now on."""
    array.setflags(write=False)
    return array
