"""The rows of processes, one for each series: processes with equal labels share it."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.ledger.groups import NONE, GroupTable
from kepler_ebpf.ledger.records import identity_of
from kepler_ebpf.ledger.table import Table
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.model.workloads import ProcessLabels, State, VmLabels

RETIRED_COMM = "[retired]"
"""The comm of the row with the processes of a container that are not listed."""

RETIRED_ROW = 0
"""The row with the processes of no container that are not listed."""

COLUMNS = [
    ("start_ns", "u8"),
    ("tgid", "u4"),
    ("exec_id", "u8"),
    ("cgroup_id", "u8"),
    ("comm", "S16"),
    ("container", "i8"),
    ("vm", "i8"),
]

SeriesKey = tuple[int, str, str, str, str]


class ProcessTable(Table[ProcessLabels]):
    """Rows of processes, found by series key: the labels without the start.

    Processes whose keys are equal share a row: a pid that was used again, or an exec back to what
    a listed one is. The newest of them owns the row: ``columns`` has its identity (a start of 0
    for none), fields of its last record, and the rows of its container and its virtual machine.
    ``[retired]`` and ``[overflow]`` rows have pid 0, and run as long as their container is listed.
    """

    def __init__(self, kinds: int) -> None:
        super().__init__(kinds, COLUMNS)
        self.vms: GroupTable[VmLabels] = GroupTable(kinds, self, "vm")
        self._row_by_key: dict[SeriesKey, int] = {}
        self._row_by_identity: dict[int, int] = {}
        self._identities: dict[int, list[int]] = {}
        self._newest_by_pid: dict[int, int] = {}
        self.sums: dict[tuple[str, int], int] = {}
        self.sum_row(RETIRED_COMM, NONE, "")

    # --- finding rows

    def rows_of(self, identities: list[int]) -> Ints:
        """Return the row of each process, ``RETIRED_ROW`` for those that are not listed."""
        row_of = self._row_by_identity.get
        return np.array([row_of(identity, RETIRED_ROW) for identity in identities], np.int64)

    def newest(self, pid: int) -> int:
        """Return the row of the newest listed process of a pid, ``RETIRED_ROW`` for none."""
        return self._newest_by_pid.get(pid, RETIRED_ROW)

    def sum_row(self, comm: str, container: int, container_id: str) -> int:
        """Return the row named *comm* of a container, made where there is none yet."""
        row = self.sums.get((comm, container))
        if row is None:
            row = self.sums[comm, container] = self.add(
                make_label(0, 0, comm, "", container_id), (0, 0, 0, 0, b"", container, NONE)
            )
        return row

    def owned_row(self, identity: int) -> int:
        """Return the row that a process owns, ``RETIRED_ROW`` where it owns none."""
        row = self._row_by_identity.get(identity, RETIRED_ROW)
        start_ns, tgid, *_ = self.columns[row].tolist()
        return row if identity_of(tgid, start_ns) == identity else RETIRED_ROW

    # --- changing rows

    def open(self, identity: int, label: ProcessLabels, values: tuple[object, ...]) -> int:
        """List a process under *label*, in the row of its series where there is one.

        *values* are its ``columns``; of its virtual machine it has nothing yet.
        """
        row = self._row_by_key.get(series_key(label))
        if row is None:
            row = self._add_series(label, values)
        elif label.start_ns >= self.columns["start_ns"][row]:
            vm = self.columns["vm"][row]
            self.columns[row] = values
            self.columns["vm"][row] = vm
            self.set_state(row, State.RUNNING)
            self.set_label(row, label)
        self._row_by_identity[identity] = row
        self._identities[row].append(identity)
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
        is_shared = into != row and len(self._identities[row]) > 1
        if is_shared or (container != self.columns["container"][row] and not bring):
            return self._leave(row, label, container)
        self.columns["container"][row] = container
        if into is None:
            self._row_by_key[key] = self._row_by_key.pop(old_key)
        elif into != row:
            return self._merge(row, into, label)
        if label != self.label(row):
            self.set_label(row, label)
        return row

    def set_vm(self, row: int, vm: VmLabels) -> None:
        """Make a process part of a virtual machine."""
        group = self.vms.row_of(vm.vm_id) or self.vms.open(vm.vm_id, vm)
        self.vms.set_label(group, vm)
        self.vms.relink(np.array([row]), group)

    def hand_over(self, rows: Ints, targets: Ints) -> None:
        """Move the totals of rows to *targets*; those of virtual machines do not change."""
        self.vms.relink(rows, self.columns["vm"][targets])
        self.move(rows, targets)

    def drop(self, rows: Ints, targets: Ints) -> None:
        """List rows no longer: their totals go to *targets*."""
        if not len(rows):
            return
        self.hand_over(rows, targets)
        gone = set(rows.tolist())
        for row in gone:
            for identity in self._identities.pop(row, ()):
                del self._row_by_identity[identity]
            self._forget_key(row)
        self.sums = {key: row for key, row in self.sums.items() if row not in gone}
        self.release(rows)

    # --- inside

    def _add_series(self, label: ProcessLabels, values: tuple[object, ...]) -> int:
        row = self._row_by_key[series_key(label)] = self.add(label, values)
        self._identities[row] = []
        return row

    def _leave(self, row: int, label: ProcessLabels, container: int) -> int:
        """Give the owner of a row another; the one it was in has ended, and has no owner."""
        start_ns, tgid, exec_id, cgroup_id, comm, _, vm = self.columns[row].tolist()
        identity = identity_of(tgid, start_ns)
        self._identities[row].remove(identity)
        self.columns["start_ns"][row] = 0
        state, ended_s = self.state[row], self.ended_s[row]
        self.set_state(row, State.TERMINATED)
        # Nothing keeps a series that no process is in: it is retired with the batch.
        self.ended_s[row] = ended_s if self._identities[row] else -np.inf
        into = self.open(identity, label, (start_ns, tgid, exec_id, cgroup_id, comm, container, vm))
        if self.columns["start_ns"][into] == start_ns:
            self.state[into], self.ended_s[into] = state, ended_s
        return into

    def _merge(self, row: int, into: int, label: ProcessLabels) -> int:
        """Make a row a part of another; the newer of the two owners has both."""
        columns = self.columns
        if columns["start_ns"][row] >= columns["start_ns"][into]:
            vm = columns["vm"][into]
            columns[into] = columns[row]
            columns["vm"][into] = vm
            self.state[into], self.ended_s[into] = self.state[row], self.ended_s[row]
            self.set_label(into, label)
        for identity in self._identities[row]:
            self._row_by_identity[identity] = into
        self._identities[into] += self._identities.pop(row)
        if self.newest(label.pid) == row:
            self._newest_by_pid[label.pid] = into
        self.drop(np.array([row]), np.array([into]))
        return into

    def _forget_key(self, row: int) -> None:
        """Drop a row from the indexes by key and by pid."""
        label = self.label(row)
        if self._row_by_key.get(series_key(label)) == row:
            del self._row_by_key[series_key(label)]
        if self._newest_by_pid.get(label.pid) == row:
            del self._newest_by_pid[label.pid]


def series_key(label: ProcessLabels) -> SeriesKey:
    """Return what tells one series of processes from another."""
    return label.pid, label.comm, label.exe, label.container_id, label.vm_id


def make_label(
    pid: int, start_ns: int, comm: str, exe: str, container_id: str, vm_id: str = ""
) -> ProcessLabels:
    """Return the labels of a process, with Kepler's word for what it is part of."""
    kind = "container" if container_id else "vm" if vm_id else "regular"
    return ProcessLabels(pid, start_ns, comm, exe, kind, container_id, vm_id)
