"""Workloads that are sums: containers, pods and units of cgroups, virtual machines of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kepler_ebpf.ledger.table import Label, Retention, Table
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.workloads import State, WorkloadView

NONE = 0
"""The group of members that are in none. Its figures mean nothing."""

RETIRED = 1
"""The group of all groups that are listed no longer."""


class GroupTable(Table[Label]):
    """Groups by id; *column* of the table *members* has the group of each member.

    The total of a group is what its members have, and its row here, the base: what members had
    that have left or are gone, less what members had before they came from another group. So a
    change of a link moves no total. A group runs while one of its members does.
    """

    def __init__(
        self,
        kinds: int,
        members: Table[Any],
        column: str,
        columns: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(kinds, columns, reserved=2)
        self.linked: list[tuple[Table[Any], str]] = [(members, column)]
        self._members, self._column = members, column
        self._row_by_id: dict[str, int] = {}
        self._seen_changes = 0
        self._shown_uj: Floats = np.zeros_like(self.energy_uj)

    @property
    def links(self) -> Ints:
        """The group of each row of the members."""
        links: Ints = self._members.columns[self._column]
        return links

    # --- groups

    def row_of(self, group_id: str) -> int:
        """Return the row of a group, ``NONE`` where it is not listed."""
        return self._row_by_id.get(group_id, NONE)

    def open(self, group_id: str, label: Label, values: Sequence[object] = ()) -> int:
        """Start a group that is not listed."""
        row = self._row_by_id[group_id] = self.add(label, values)
        return row

    def rename(self, old_id: str, new_id: str) -> int:
        """Give a listed group another id, or merge it into the one that has it; return its row."""
        row, into = self.row_of(old_id), self.row_of(new_id)
        if into == NONE:
            self._row_by_id[new_id] = self._row_by_id.pop(old_id)
            return row
        self.ended_s[into] = max(self.ended_s[into], self.ended_s[row])
        self._absorb(np.array([row]), into)
        return into

    def retire_due(self, keep: Retention, rank: int) -> Ints:
        """Retire the groups that are to be listed no longer, and return their rows.

        The kind *rank* chooses which ended groups are listed.
        """
        self.refresh()
        if not (self.state[: self.size] == State.TERMINATED).any():
            return np.zeros(0, np.int64)
        gone = self.due(keep, self.totals()[0][:, rank])
        if len(gone):
            self._absorb(gone, RETIRED)
        return gone

    # --- members

    def relink(self, rows: Ints, to: int | Ints, *, stay: bool = False) -> None:
        """Make members part of the groups *to*, one or (rows,).

        What a member had so far stays in the group it leaves. What it had in no group comes
        along, unless it is to *stay* as well.
        """
        to = np.broadcast_to(to, len(rows))
        had = self.links[rows]
        leaves = had != to
        if not stay:
            leaves &= had != NONE
        if leaves.any():
            self.add_from(self._members, rows[leaves], had[leaves])
            self.add_from(self._members, rows[leaves], to[leaves], sign=-1)
        self.links[rows] = to
        self.changes += 1

    def refresh(self) -> None:
        """Let groups run that have a running member, and end the others."""
        members, state = self._members, self.state[: self.size]
        if self.changes + members.changes == self._seen_changes or not self._row_by_id:
            return
        is_running = members.state[: members.size] == State.RUNNING
        running = self.links[: members.size][is_running]
        has_running = np.bincount(running, minlength=self.size) > 0
        ended = np.flatnonzero(~has_running & (state == State.RUNNING))
        self.set_state(ended, State.TERMINATED)
        state[has_running & (state == State.TERMINATED)] = State.RUNNING
        self._seen_changes = self.changes + members.changes

    # --- totals

    def totals(self) -> tuple[Floats, Ints]:
        """Return energy (rows, kinds) and CPU ns (rows,) of every group."""
        energy_uj, cpu_ns = self.energy_uj[: self.size].copy(), self.cpu_ns[: self.size].copy()
        rows = np.flatnonzero(self.links[: self._members.size])
        groups = self.links[rows]
        np.add.at(cpu_ns, groups, self._members.cpu_ns[rows])
        for kind in range(energy_uj.shape[1]):
            np.add.at(energy_uj[:, kind], groups, self._members.energy_uj[rows, kind])
        return energy_uj, cpu_ns

    def view(self) -> WorkloadView:
        """Return the totals now, and the last closed interval."""
        self.refresh()
        energy_uj, cpu_ns = self.totals()
        # A sum in another order may differ in its last bit, and no counter may fall by it.
        self._shown_uj.resize(self.energy_uj.shape, refcheck=False)
        np.maximum(energy_uj, self._shown_uj[: self.size], out=energy_uj)
        self._shown_uj[: self.size] = energy_uj
        links = self.links
        shown = self.shown() + [(links[rows], uj) for rows, uj in self._members.shown()]
        retired = energy_uj[RETIRED], int(cpu_ns[RETIRED])
        return self.make_view((energy_uj, cpu_ns), shown, retired)

    # --- inside

    def _absorb(self, rows: Ints, into: int) -> None:
        """Make *rows* a part of another group, and free them."""
        for table, column in self.linked:
            links = table.columns[column]
            links[np.isin(links, rows)] = into
        self.move(rows, np.full(len(rows), into))
        self.release(rows)
        self._shown_uj[rows[rows < len(self._shown_uj)]] = 0.0
        gone = set(rows.tolist())
        self._row_by_id = {key: row for key, row in self._row_by_id.items() if row not in gone}
