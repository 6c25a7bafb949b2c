"""The totals of tasks: the threads of processes, for who looks at each interval."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED, TASK
from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.records import LinkedRecords, identities_of
from kepler_ebpf.ledger.table import SHOWN, Table
from kepler_ebpf.model.arrays import Bools, Ints, Records
from kepler_ebpf.model.bounds import Limit
from kepler_ebpf.model.workloads import OTHERS, State, TaskLabels, WorkloadView

MAX_TASKS = 20_000
"""Tasks with a row; new ones beyond are in ``OTHERS``."""

OTHERS_ROW = 0

FACTS = ("pid", "start_ns", "comm")
"""What the table keeps of a task's record."""


class TaskTotals:
    """Tasks by pid and start. One that ended with its process is listed in its last interval.

    The kernel side does not report the end of one thread of several: when there is no place left,
    tasks that did not run in the interval that is shown make room, and are in ``OTHERS`` then.
    """

    def __init__(self, kinds: int) -> None:
        self._limit = Limit("task", "tasks that have no place are in [others]")
        columns = [(name, TASK[name].str) for name in FACTS]
        self._table: Table[TaskLabels] = Table(kinds, Places(self._limit, 0), columns)
        self._table.add(TaskLabels(0, 0, OTHERS, 0, 0, ""))
        self._row_by_identity: dict[int, int] = {}

    def begin(self, now_s: float, shown: int) -> None:
        """Start a batch, as ``Table.begin``."""
        self._table.begin(now_s, shown)

    def credit(self, records: LinkedRecords) -> None:
        """Add what was used to the tasks, and list those that are new."""
        tasks, table = records.tasks, self._table
        identities = identities_of(tasks["pid"], tasks["start_ns"])
        self._forget(only_ended=True)
        rows = self._rows_of(identities)
        new = np.flatnonzero(rows == OTHERS_ROW).tolist()
        if new:
            if len(self._row_by_identity) + len(new) > MAX_TASKS:
                self._forget(only_ended=False)
            for at in new:
                self._open(identities[at], tasks[at])
            rows = self._rows_of(identities)
        renamed = (table.columns["comm"][rows] != tasks["comm"]) & (rows != OTHERS_ROW)
        for at in np.flatnonzero(renamed).tolist():
            table.columns["comm"][rows[at]] = tasks["comm"][at]
            table.set_label(int(rows[at]), _label(tasks[at]))
        ended = rows[((tasks["flags"] & FLAG_ENDED) != 0) & (rows != OTHERS_ROW)]
        if len(ended):
            table.set_state(ended, State.TERMINATED)
        table.credit(rows, records.weights, records.recent)

    def view(self) -> WorkloadView:
        """Return the totals of the tasks; ``OTHERS`` is among the rows."""
        return self._table.make_view([OTHERS_ROW])

    def _rows_of(self, identities: list[int]) -> Ints:
        row_of = self._row_by_identity.get
        return np.array([row_of(identity, OTHERS_ROW) for identity in identities])

    def _open(self, identity: int, task: Records) -> None:
        if identity in self._row_by_identity:
            return
        if len(self._row_by_identity) >= MAX_TASKS:
            self._limit.reached()
            return
        row = self._row_by_identity[identity] = self._table.add(_label(task))
        self._table.columns[row] = tuple(task[name] for name in FACTS)

    def _forget(self, *, only_ended: bool) -> None:
        """Free the rows of tasks that did not run in the interval that is shown, or later."""
        table = self._table
        is_due: Bools = table.recent[: table.size, SHOWN:, -1].sum(axis=1) == 0
        if only_ended:
            is_due &= table.state[: table.size] == State.TERMINATED
        is_due[OTHERS_ROW] = False
        rows: Ints = np.flatnonzero(is_due & (table.state[: table.size] != State.FREE))
        if len(rows):
            facts = table.columns[rows]
            for identity in identities_of(facts["pid"], facts["start_ns"]):
                del self._row_by_identity[identity]
            table.move(rows, np.full(len(rows), OTHERS_ROW))


def _label(task: Records) -> TaskLabels:
    comm, process_comm = (
        bytes(task[name]).decode("utf-8", "replace") for name in ("comm", "process_comm")
    )
    return TaskLabels(
        pid=int(task["pid"]),
        start_ns=int(task["start_ns"]),
        comm=comm,
        tgid=int(task["tgid"]),
        process_start_ns=int(task["process_start_ns"]),
        process_comm=process_comm,
    )
