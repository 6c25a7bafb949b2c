"""Which processes get a row, and whose: the user's selection, applied to a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from kepler_ebpf.ledger.candidates import Candidates
from kepler_ebpf.ledger.records import LinkedRecords, comm_of, pid_of
from kepler_ebpf.ledger.table import RETIRED_ROW, Table
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.selection import Selection
from kepler_ebpf.model.workloads import ProcessLabels

NO_ROWS = np.zeros(0, np.int64)


class Selector:
    """Selects among the processes of a batch; the column ``score`` of *table* ranks the listed.

    A process of a virtual machine keeps its row: the machine's is made of it.
    """

    def __init__(self, table: Table[ProcessLabels], selection: Selection) -> None:
        self._table = table
        self._selection = selection
        self._candidates = Candidates(selection)
        self._selects_all = selection.selects_all

    def choose(
        self,
        records: LinkedRecords,
        rows: Ints,
        new: Ints,
        energy_uj: Floats,
        may_enter: Callable[[list[int], Floats], Bools],
        newest: Callable[[int], int],
    ) -> tuple[Ints, Ints]:
        """Return those of the records *new* whose process gets a row, and the rows to be freed.

        *rows* and *energy_uj* are of all records; *new* index those of processes without a row.
        Of these, *may_enter* returns which may be listed, from identities and energy. *newest*
        returns the row of a pid.
        """
        if self._selects_all:
            return new, NO_ROWS
        table, scores = self._table, self._table.columns["score"]
        scores *= self._candidates.begin(table.now_s)
        scores += np.bincount(rows, energy_uj, len(scores))
        new = new[self.takes(records, new)]
        seen: dict[int, int] = {}
        numbers = [seen.setdefault(records.identities[at], len(seen)) for at in new.tolist()]
        index = np.array(numbers, np.int64)
        identities, used_uj = list(seen), np.zeros(len(seen))
        np.add.at(used_uj, index, energy_uj[new])
        allowed = may_enter(identities, used_uj) & self._candidates.rested(identities)
        # A pid has one owner. The newer one goes on with the series of the earlier, if it is alike.
        earlier = np.array([newest(pid_of(one)) for one in identities], np.int64)
        ranked, stays = self._ranked(earlier)
        listed: Floats = np.where(stays, np.inf, scores[ranked])
        succeeds = earlier != RETIRED_ROW
        chosen = self._candidates.choose(identities, used_uj, allowed, succeeds, listed)
        enters = chosen.enters[index] | (records.tasks["tgid"][new] == self._selection.always)
        return new[enters], ranked[: chosen.leaving]

    def takes(self, records: LinkedRecords, index: Ints) -> Bools:
        """Return which processes of the records at *index* may be listed by name and cgroup."""
        comms, is_taken = self._selection.comm, records.are_wanted[index]
        if not comms.takes_all:
            tasks = records.tasks[index]
            is_taken &= np.array([comms.takes(comm_of(task)) for task in tasks], np.bool_)
        taken: Bools = is_taken | (records.tasks["tgid"][index] == self._selection.always)
        return taken

    def entered(self, row: int, identity: int) -> None:
        """Note that a process has got *row*."""
        if not self._selects_all:
            self._table.columns["score"][row] = self._candidates.take(identity)

    def left(self, identities: Iterable[int]) -> None:
        """Note that processes have lost their row, but have not ended."""
        self._candidates.rest(identities)

    def ended(self, identities: Iterable[int]) -> None:
        """Note that processes are gone."""
        self._candidates.forget(identities)

    def _ranked(self, kept: Ints) -> tuple[Ints, Bools]:
        """Return the rows of processes, those that may be freed first and by score; which stay.

        Among those that stay are the rows *kept*.
        """
        columns = self._table.columns
        rows = np.flatnonzero(columns["tgid"])
        stays = (columns["vm"][rows] != 0) | np.isin(rows, kept)
        stays |= columns["tgid"][rows] == self._selection.always
        order = np.lexsort((columns["score"][rows], stays))
        return rows[order], stays[order]
