"""Workloads of several members: containers, pods and units of cgroups, machines of processes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.records import LinkedRecords
from kepler_ebpf.ledger.table import Label, Retention, Table
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.model.workloads import OTHERS, State, WorkloadView

NONE = 0
"""The group of members that are in none. Its figures mean nothing."""

RETIRED = 1
"""The group of all groups that are listed no longer."""


class GroupTable(Table[Label]):
    """Groups by id; *column* of the table *members* has the group of each member.

    What a member uses is added to the group it is in then, and stays there. A group runs while one
    of its members does. Groups for which there is no place are one, ``OTHERS``, which stays listed.
    """

    def __init__(
        self,
        kinds: int,
        places: Places,
        members: Table[Any],
        column: str,
        columns: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(kinds, places, columns, reserved=2)
        self.linked: list[tuple[Table[Any], str]] = [(members, column)]
        self._members, self._column = members, column
        self._row_by_id: dict[Hashable, int] = {}
        self._others = NONE
        self._seen_changes = 0

    @property
    def links(self) -> Ints:
        """The group of each row of the members."""
        links: Ints = self._members.columns[self._column]
        return links

    # --- groups

    def row_of(self, group_id: Hashable) -> int:
        """Return the row of a group, ``NONE`` where it is not listed."""
        return self._row_by_id.get(group_id, NONE)

    def open(self, group_id: Hashable, label: Label, owner: str, *, is_wanted: bool = True) -> int:
        """Return the row of a group; one not listed starts under *label*, or is in ``OTHERS``.

        It is in there if no row of its own *is_wanted*, or there is no place.
        """
        row = self.row_of(group_id)
        is_wanted &= group_id != OTHERS
        if row == NONE and not (is_wanted and self.places.has_room(owner)):
            return self._open_others(label)
        if row == NONE:
            row = self._row_by_id[group_id] = self.add(label, owner)
        return row

    def is_one(self, row: int) -> bool:
        """Whether a row is that of one group, and so of one label."""
        return row not in {NONE, RETIRED, self._others}

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
        """Retire groups that are to be listed no longer, however little they used; return the rows.

        The kind *rank* chooses which ended groups are listed.
        """
        self._refresh()
        gone = self.due(keep._replace(min_uj=0.0), rank)
        gone = np.delete(gone, np.flatnonzero(gone == self._others))
        if len(gone):
            self._absorb(gone, RETIRED)
        return gone

    # --- members

    def relink(self, rows: Ints, to: int, *, stay: bool = False) -> None:
        """Make members part of the group *to*.

        What a member had so far stays in the group it leaves. What it had in no group comes
        along, unless it is to *stay* as well.
        """
        if not stay:
            new = rows[self.links[rows] == NONE]
            self.add_from(self._members, new, np.full(len(new), to))
        self.links[rows] = to
        self.changes += 1

    def credit_groups(self, members: Ints, records: LinkedRecords) -> None:
        """Add what *records* used to the groups of the *members* (records,)."""
        groups = self.links[members]
        if groups.any():
            self.credit(groups, records.weights, records.recent)

    def states(self) -> list[int]:
        """Return the state of each row now."""
        self._refresh()
        states: list[int] = self.state.tolist()
        return states

    def view(self) -> WorkloadView:
        """Return the totals now, and the last closed interval."""
        self._refresh()
        return self.make_view([RETIRED])

    # --- inside

    def _open_others(self, label: Label) -> int:
        """Return the row of the groups without a place, with the first field of *label* alone."""
        if self._others == NONE:
            names = [field.name for field in fields(label)]  # type: ignore[arg-type]
            self._others = self.add(type(label)(**dict.fromkeys(names, "") | {names[0]: OTHERS}))
        return self._others

    def _refresh(self) -> None:
        """Let groups run that have a running member, and end the others."""
        members, state = self._members, self.state[: self.size]
        if self.changes + members.changes == self._seen_changes or self.size == self._reserved:
            return
        is_running = members.state[: members.size] == State.RUNNING
        running = self.links[: members.size][is_running]
        has_running = np.bincount(running, minlength=self.size) > 0
        ended = np.flatnonzero(~has_running & (state == State.RUNNING))
        self.set_state(ended, State.TERMINATED)
        state[has_running & (state == State.TERMINATED)] = State.RUNNING
        self._seen_changes = self.changes + members.changes

    def _absorb(self, rows: Ints, into: int) -> None:
        """Make *rows* a part of another group, and free them."""
        for table, column in self.linked:
            links = table.columns[column]
            links[np.isin(links, rows)] = into
        self.move(rows, np.full(len(rows), into))
        gone = set(rows.tolist())
        self._row_by_id = {key: row for key, row in self._row_by_id.items() if row not in gone}
