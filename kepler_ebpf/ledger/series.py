"""The rows of processes, one for each series: processes with equal labels share it."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.ledger.groups import NONE, GroupTable
from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.records import identity_of
from kepler_ebpf.ledger.table import RETIRED_ROW, START_ROWS, Table
from kepler_ebpf.model.arrays import Floats, Ints, Records
from kepler_ebpf.model.workloads import ProcessLabels, State, VmLabels

COLUMNS = [
    ("start_ns", "u8"),
    ("tgid", "u4"),
    ("exec_id", "u8"),
    ("cgroup_id", "u8"),
    ("comm", "S16"),
    ("container", "i8"),
    ("vm", "i8"),
    ("score", "f8"),
]

MAX_OWNERS = 4
"""Number of processes, the newest, whose late records are credited to the series they share."""


SeriesKey = tuple[int, str, str, str, str]


class ProcessTable(Table[ProcessLabels]):
    """Rows of processes, found by series key: the labels without the start.

    Processes whose keys are equal share a row: a pid that was used again, or an exec back to what
    a listed one is. The newest of them owns the row: ``columns`` has its identity (a start of 0
    for none), fields of its last record, the rows of its container and its virtual machine, and the
    energy used lately, which ranks processes where that is wanted.
    ``seen`` (rows, kinds + 1) has the energy and the CPU time that the last view had.
    """

    ARRAYS = (*Table.ARRAYS, "seen")

    def __init__(self, kinds: int, places: Places, of_vms: Places) -> None:
        super().__init__(kinds, places, COLUMNS)
        self.seen: Floats = np.zeros((START_ROWS, kinds + 1))
        self.vms: GroupTable[VmLabels] = GroupTable(kinds, of_vms, self, "vm")
        self._row_by_key: dict[SeriesKey, int] = {}
        self._row_by_identity: dict[int, int] = {}
        self._identities: dict[int, list[int]] = {}
        self._newest_by_pid: dict[int, int] = {}

    # --- finding rows

    def rows_of(self, identities: list[int]) -> Ints:
        """Return the row of each process, ``RETIRED_ROW`` for those that are not listed."""
        row_of = self._row_by_identity.get
        return np.array([row_of(identity, RETIRED_ROW) for identity in identities], np.int64)

    def newest(self, pid: int) -> int:
        """Return the row of the newest listed process of a pid, ``RETIRED_ROW`` for none."""
        return self._newest_by_pid.get(pid, RETIRED_ROW)

    def owned_row(self, identity: int) -> int:
        """Return the row that a process owns, ``RETIRED_ROW`` where it owns none."""
        row = self._row_by_identity.get(identity, RETIRED_ROW)
        start_ns, tgid, *_ = self.columns[row].tolist()
        return row if identity_of(tgid, start_ns) == identity else RETIRED_ROW

    def identities(self, row: int) -> tuple[int, ...]:
        """Return the processes that are credited to a row."""
        return tuple(self._identities.get(row, ()))

    def parent_exe(self, task: Records) -> str:
        """Return the executable of a process that has not called exec since its parent made it."""
        row = self.newest(int(task["parent_tgid"]))
        parent = self.columns[row]
        is_older = parent["start_ns"] <= task["process_start_ns"]
        is_same = parent["exec_id"] == task["exec_id"] and parent["comm"] == task["process_comm"]
        return self.label(row).exe if is_older and is_same else ""

    # --- changing rows

    def open(
        self, label: ProcessLabels, values: tuple[object, ...], owner: str, vm: int = NONE
    ) -> int:
        """List a process of *owner* under *label*, in the row of its series where there is one.

        *values* are its ``columns`` but for the last: the machine, which is *vm* in a new row, and
        the score.
        """
        identity, key = identity_of(label.pid, label.start_ns), series_key(label)
        row = self._row_by_key.get(key)
        if row is None:
            row = self._row_by_key[key] = self.add(label, owner)
            self._identities[row] = []
            self.columns["vm"][row] = vm
        if label.start_ns >= self.columns["start_ns"][row]:
            self.columns[row] = (*values, *self.columns[["vm", "score"]][row])
            self.set_state(row, State.RUNNING)
            self.set_label(row, label)
        self._row_by_identity[identity] = row
        self._identities[row].append(identity)
        if len(self._identities[row]) > MAX_OWNERS:
            oldest = min(self._identities[row])
            self._identities[row].remove(oldest)
            del self._row_by_identity[oldest]
        self.changes += 1
        if label.start_ns >= self.columns["start_ns"][self.newest(label.pid)]:
            self._newest_by_pid[label.pid] = row
        return row

    def relabel(self, row: int, label: ProcessLabels, container: int, *, bring: bool) -> int:
        """Show the owner of a row under *label*, in *container*; return the row it is in then.

        What it used in another container stays there, unless it is to *bring* that, and what it
        shares with an earlier process stays with that. Where the new series is listed, both rows
        become one.
        """
        key, old_key = series_key(label), series_key(self.label(row))
        into = self._row_by_key.get(key)
        is_whole = bring or container == self.columns["container"][row]
        is_whole &= len(self._identities[row]) == 1
        if into != row and (into is not None or not is_whole):
            return self._leave(row, label, container, is_whole=is_whole)
        self._row_by_key[key] = self._row_by_key.pop(old_key)
        self.columns["container"][row] = container
        self.set_label(row, label)
        return row

    def set_vm(self, row: int, vm: VmLabels) -> None:
        """Make a process part of a virtual machine."""
        group = self.vms.open(vm.vm_id, vm, self.places.owner(row))
        if self.vms.is_one(group):
            self.vms.set_label(group, vm)
        self.vms.relink(np.array([row]), group)

    def note_seen(self) -> None:
        """Note that a view has what every row has now."""
        self.seen[:, :-1], self.seen[:, -1] = self.energy_uj, self.cpu_ns

    def retire(self, rows: Ints, seen_to: Ints, unseen_to: Ints) -> None:
        """List rows no longer. What no view had of them goes to rows of its own, *unseen_to*."""
        seen_uj, seen_ns = self.seen[rows, :-1], self.seen[rows, -1]
        np.add.at(self.energy_uj, unseen_to, self.energy_uj[rows] - seen_uj)
        np.add.at(self.cpu_ns, unseen_to, self.cpu_ns[rows] - seen_ns)
        np.add.at(self.recent, unseen_to, self.recent[rows])
        self.energy_uj[rows], self.cpu_ns[rows], self.recent[rows] = seen_uj, seen_ns, 0.0
        self.drop(rows, seen_to)

    def drop(self, rows: Ints, targets: Ints) -> None:
        """List rows no longer: their totals go to *targets*."""
        if not len(rows):
            return
        for row in rows.tolist():
            for identity in self._identities.pop(row, ()):
                del self._row_by_identity[identity]
            label = self.label(row)
            if self._row_by_key.get(series_key(label)) == row:
                del self._row_by_key[series_key(label)]
            if self.newest(label.pid) == row:
                del self._newest_by_pid[label.pid]
        np.add.at(self.seen, targets, self.seen[rows])
        self.move(rows, targets)

    # --- inside

    def _leave(self, row: int, label: ProcessLabels, container: int, *, is_whole: bool) -> int:
        """Give the owner of a row another, with all that the row has where it *is_whole*.

        Otherwise the row it was in has ended, and has no owner.
        """
        start_ns, tgid, exec_id, cgroup_id, comm, _, vm, score = self.columns[row].tolist()
        state, ended_s = self.state[row], self.ended_s[row]
        self._identities[row].remove(identity_of(tgid, start_ns))
        values = (start_ns, tgid, exec_id, cgroup_id, comm, container)
        into = self.open(label, values, self.places.owner(row), vm)
        self.columns["score"][into] = max(self.columns["score"][into], score)
        if self.columns["start_ns"][into] == start_ns:
            self.state[into], self.ended_s[into] = state, ended_s
        if is_whole:
            self.vms.relink(np.array([row]), self.columns["vm"][into])
            self.drop(np.array([row]), np.array([into]))
        else:
            self.columns["start_ns"][row] = 0
            self.set_state(row, State.TERMINATED)
            # Nothing keeps a series that no process is in: it is retired with the batch.
            self.ended_s[row] = ended_s if self._identities[row] else -np.inf
        return into


def series_key(label: ProcessLabels) -> SeriesKey:
    """Return what tells one series of processes from another."""
    return label.pid, label.comm, label.exe, label.container_id, label.vm_id
