"""Totals of workloads that are made of others: containers, pods, units, virtual machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kepler_ebpf.ledger.identity_index import NO_ROW
from kepler_ebpf.ledger.table import EnergyColumns, Label, WorkloadTable, sum_by_row
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.model.workloads import State


class GroupTable(WorkloadTable[Label]):
    """Workloads made of members, found by their id: they run while one of their members does.

    ``columns`` begins with ``live``, the number of running members. ``is_used`` from the first
    group on: before it, nothing credited here would be kept.
    """

    def __init__(self, energy: EnergyColumns, columns: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(energy, [("live", "i8"), *columns])
        self.is_used = False
        self._row_by_id: dict[str, int] = {}
        self._id_by_row: dict[int, str] = {}

    def row_of(self, group_id: str) -> int:
        """Return the row of a group, ``NO_ROW`` where it is not listed."""
        return self._row_by_id.get(group_id, NO_ROW)

    def open(self, group_id: str, label: Label, now_s: float, *values: object) -> int:
        """Start a group that has no running member yet and that is not listed."""
        self.is_used = True
        row = self.add(label, (0, *values))
        self.end(np.array([row]), now_s)
        self._row_by_id[group_id] = row
        self._id_by_row[row] = group_id
        return row

    def join(self, row: int) -> bool:
        """Count one more running member; True where it is the only one."""
        self.columns["live"][row] += 1
        self.start_again(row)
        return bool(self.columns["live"][row] == 1)

    def leave(self, row: int, now_s: float) -> bool:
        """Count one running member less; True where it was the last."""
        self.columns["live"][row] -= 1
        last = bool(self.columns["live"][row] == 0)
        if last:
            self.end(np.array([row]), now_s)
        return last

    def rename(self, row: int, group_id: str) -> int:
        """Give a group another id; where that is listed, both become one. Returns its row."""
        into = self.row_of(group_id)
        if into == NO_ROW:
            del self._row_by_id[self._id_by_row[row]]
            self._row_by_id[group_id], self._id_by_row[row] = row, group_id
            return row
        self._merge(row, into)
        return into

    def _merge(self, row: int, into: int) -> None:
        """Move everything of *row*, what it was given in this interval too, and free it."""
        self.carry_over(into, self.energy_uj[row], int(self.cpu_ns[row]))
        self.energy_uj[row], self.cpu_ns[row] = 0.0, 0
        self._pending = [
            sum_by_row(np.where(rows == row, into, rows), uj) for rows, uj in self._pending
        ]
        if self.state[row] == State.RUNNING:
            self.join(into)
            self.columns["live"][into] += self.columns["live"][row] - 1
            self.end(np.array([row]), self.ended_s[into])
        self.ended_s[into] = max(self.ended_s[into], self.ended_s[row])
        self.release(np.array([row]))

    def release(self, rows: Ints) -> None:
        """Fold the totals of *rows* and forget their ids."""
        for row in rows.tolist():
            del self._row_by_id[self._id_by_row.pop(row)]
        super().release(rows)
