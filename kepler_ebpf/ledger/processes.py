"""The totals of processes, and of the virtual machines they run.

A process is its pid and its start together. One that came and went within a batch and used little,
that is not selected, or for which there is no place, has no row of its own: what it uses is in the
row ``[others]`` of its container. What a view had of a process moves to the row ``[retired]`` once
it is listed no longer, the rest to ``[others]``. So the rows of processes add up to what was used,
in each container and in all; and whoever reads every view sees all of it rise once, in rows that
are not ``[retired]``. Where the container of a cgroup is learned late, processes that are not
listed by then stay in the row of those in no container.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.ledger.cgroups import CgroupTotals
from kepler_ebpf.ledger.groups import NONE
from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.records import (
    LinkedRecords,
    Pids,
    Starts,
    comm_of,
    group_by_process,
    identities_of,
    identity_of,
)
from kepler_ebpf.ledger.selector import Selector
from kepler_ebpf.ledger.series import ProcessTable
from kepler_ebpf.ledger.sums import SumRows, make_label
from kepler_ebpf.ledger.table import RETIRED_ROW, Retention, frozen
from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.model.names import Naming, ProcessIdentity, ProcessName
from kepler_ebpf.model.selection import Selection
from kepler_ebpf.model.usage import OVERFLOW_COMM
from kepler_ebpf.model.workloads import OTHERS, RETIRED, State, WorkloadView

FACTS = {"exec_id": "exec_id", "cgroup_id": "cgroup_id", "comm": "process_comm"}
"""What the table keeps of a process's newest record: its columns, and the fields of the record."""


class ProcessTotals:
    """Processes by identity, and their virtual machines. *groups* has their containers.

    *places* are of processes and of machines.

    Rows of several processes have pid 0, and run as long as their container does.
    """

    def __init__(
        self,
        kinds: int,
        naming: Naming,
        groups: CgroupTotals,
        retention: Retention,
        places: tuple[Places, Places],
        selection: Selection,
    ) -> None:
        self.processes = ProcessTable(kinds, *places)
        self.vms = self.processes.vms
        self._naming = naming
        self._groups = groups
        self._retention = retention
        self._ended: set[int] = set()
        self._sums = SumRows(self.processes, groups.container_id)
        self._selector = Selector(self.processes, selection)
        self._retired_uj: Floats = np.zeros(kinds)
        self._retired_cpu_ns = 0.0

    # --- each batch

    def credit(self, records: LinkedRecords, rank: int) -> None:
        """Add what was used to the processes, and list those that are new.

        What a process used in another container than the one it is shown in is among the others
        of that container. *rank* is the kind that chooses which ended processes are listed.
        """
        rows = self._rows_of(records, rank)
        self.vms.credit_groups(rows, records)
        is_elsewhere = self.processes.columns["container"][rows] != records.containers
        self._sums.put(rows, is_elsewhere | (rows == RETIRED_ROW), records.containers, OTHERS)
        self.processes.credit(rows, records.weights, records.recent)

    def ended(self, tgids: Pids, starts: Starts) -> None:
        """Note processes that are gone, known or not; they end with the batch."""
        self._ended.update(identities_of(tgids, starts))

    def running(self) -> tuple[Pids, Starts]:
        """Return pid and start of every process that is listed as running."""
        table = self.processes
        is_running = (table.state == State.RUNNING) & (table.columns["tgid"] != 0)
        columns = table.columns[is_running]
        return columns["tgid"], columns["start_ns"]

    def totals_of(self, tgid: int, start_ns: int) -> tuple[Floats, float]:
        """Return the energy (kinds,) and the CPU ns of a process, zeros where it is not listed."""
        row = self.processes.rows_of([identity_of(tgid, start_ns)])[0]
        if row == RETIRED_ROW:
            return np.zeros(self.processes.energy_uj.shape[1]), 0.0
        return self.processes.energy_uj[row].copy(), float(self.processes.cpu_ns[row])

    def close(self, rank: int, gone_containers: Ints) -> None:
        """End what has exited, and retire what is to be listed no longer.

        Of *gone_containers*, which are listed no longer, no process is.
        """
        table = self.processes
        rows = np.array([table.owned_row(identity) for identity in self._ended], np.int64)
        rows = rows[(rows != RETIRED_ROW) & (table.state[rows] == State.RUNNING)]
        if len(rows):
            table.set_state(rows, State.TERMINATED)
        self._selector.ended(self._ended)
        self._ended.clear()
        if len(gone_containers):
            inside = np.isin(table.columns["container"], gone_containers).nonzero()[0]
            self._retire(inside, np.full(len(inside), NONE))
            self._sums.forget(gone_containers)
        due = table.due(self._retention, rank)
        self._retire(due, table.columns["container"][due])
        self.vms.retire_due(self._retention, rank)

    def view(self) -> WorkloadView:
        """Return the totals of the processes; the retired are among the rows."""
        container_states = self._groups.containers.states()
        view = self.processes.make_view(self._sums.unlisted())
        # A sum in another order may differ in its last bit, and no counter may fall by it.
        self._retired_uj = frozen(np.maximum(self._retired_uj, view.retired_uj))
        self._retired_cpu_ns = max(self._retired_cpu_ns, view.retired_cpu_ns)
        self.processes.note_seen()
        state = view.state.copy()
        for row, container in self._sums.in_containers():
            state[row] = container_states[container]
        return replace(
            view,
            state=frozen(state),
            retired_uj=self._retired_uj,
            retired_cpu_ns=self._retired_cpu_ns,
        )

    # --- names

    def relabel(self, tgid: int, start_ns: int, name: ProcessName) -> None:
        """Give a listed process a better name."""
        row = self.processes.owned_row(identity_of(tgid, start_ns))
        if row != RETIRED_ROW:
            container = int(self.processes.columns["container"][row])
            self._show(row, self.processes.label(row).comm, name, container)

    def unlist_cgroup(self, cgroup_id: int) -> None:
        """List no longer what runs in a cgroup that is not selected."""
        columns = self.processes.columns
        is_inside = (columns["cgroup_id"] == cgroup_id) & (columns["tgid"] != 0)
        self._unlist(np.flatnonzero(is_inside))

    def move_cgroup(self, cgroup_id: int, had: int, container: int) -> None:
        """Show the listed processes of a cgroup in *container*; they bring what they had in none.

        *had* is the row of the container it was in.
        """
        columns = self.processes.columns
        rows = np.flatnonzero((columns["cgroup_id"] == cgroup_id) & (columns["start_ns"] != 0))
        for identity in identities_of(columns["tgid"][rows], columns["start_ns"][rows]):
            row = self.processes.owned_row(identity)
            label = self.processes.label(row)
            self._show(row, label.comm, ProcessName(label.exe), container, bring=had == NONE)

    # --- inside: rows of records

    def _rows_of(self, records: LinkedRecords, rank: int) -> Ints:
        """Return the row of each record's process, or that of its container's overflow."""
        table, tasks, changes = self.processes, records.tasks, self.processes.changes
        rows = table.rows_of(records.identities)
        has_ended = np.flatnonzero(tasks["flags"] & FLAG_ENDED).tolist()
        self._ended.update([records.identities[index] for index in has_ended])
        is_overflow = tasks["tgid"] == 0
        new = np.flatnonzero((rows == RETIRED_ROW) & ~is_overflow)
        rank_uj, rules = records.weights[:, rank], (self._may_enter, table.newest)
        new, leaving = self._selector.choose(records, rows, new, rank_uj, *rules)
        if len(leaving):
            self._unlist(leaving)
            rows = table.rows_of(records.identities)
        # New ones first: one whose pid was used before shares the series of the earlier process.
        # If that were relabelled before, the series would start again at 0.
        if len(new):
            self._admit(records, new, rank)
        self._follow(records, rows)
        if table.changes != changes:
            rows = table.rows_of(records.identities)
        self._sums.put(rows, is_overflow, records.containers, OVERFLOW_COMM)
        return rows

    def _unlist(self, rows: Ints) -> None:
        """List processes no longer that may still run."""
        for row in rows.tolist():
            self._selector.left(self.processes.identities(row))
        self._retire(rows, self.processes.columns["container"][rows])

    def _retire(self, rows: Ints, containers: Ints) -> None:
        """List rows no longer, and have what they used in the rows of *containers* (rows,)."""
        if len(rows):
            is_put, seen_to, unseen_to = rows >= 0, rows.copy(), rows.copy()
            self._sums.put(seen_to, is_put, containers, RETIRED)
            self._sums.put(unseen_to, is_put, containers, OTHERS)
            self.processes.retire(rows, seen_to, unseen_to)

    # --- inside: processes that are listed

    def _follow(self, records: LinkedRecords, rows: Ints) -> None:
        """Relabel processes that called exec, changed their name or left their cgroup.

        A process whose threads are in several cgroups stays in the one it is shown in as long as
        any of them runs there. One that is listed as ended stays what it was.
        """
        columns, tasks = self.processes.columns, records.tasks
        is_same = columns["exec_id"][rows] == tasks["exec_id"]
        is_same &= columns["cgroup_id"][rows] == tasks["cgroup_id"]
        is_same &= columns["comm"][rows] == tasks["process_comm"]
        is_owner = columns["start_ns"][rows] == tasks["process_start_ns"]
        is_owner &= (rows != RETIRED_ROW) & (self.processes.state[rows] == State.RUNNING)
        differs = is_owner & ~is_same
        if differs.any():
            index = np.flatnonzero(is_owner & np.isin(rows, rows[differs]))
            newest = group_by_process(records, index, is_same[index]).newest
            for changed in newest[~is_same[newest]].tolist():
                self._update(records, changed)

    def _update(self, records: LinkedRecords, index: int) -> None:
        """Describe a listed process as its record at *index* does."""
        row = self.processes.owned_row(records.identities[index])
        if not self._selector.takes(records, np.array([index])).all():
            self._unlist(np.array([row]))
            return
        columns, task = self.processes.columns, records.tasks[index]
        name = ProcessName(self.processes.label(row).exe)
        if columns["exec_id"][row] != task["exec_id"]:
            name = self._name(records, index)
        for column, field in FACTS.items():
            columns[column][row] = task[field]
        self._show(row, comm_of(task), name, int(records.containers[index]))

    def _show(
        self, row: int, comm: str, name: ProcessName, container: int, *, bring: bool = False
    ) -> None:
        """Relabel the owner of a row, and make it part of its container and virtual machine."""
        label = self.processes.label(row)
        container_id = self._groups.container_id(container)
        vm_id = name.vm.vm_id if name.vm else label.vm_id
        label = make_label(label.pid, label.start_ns, comm, name.exe, container_id, vm_id)
        row = self.processes.relabel(row, label, container, bring=bring)
        if name.vm:
            self.processes.set_vm(row, name.vm)

    # --- inside: processes that are new

    def _admit(self, records: LinkedRecords, new: Ints, rank: int) -> None:
        """List the processes of the records at *new*, but not those that ended and used little."""
        groups = group_by_process(records, new, np.zeros(len(new), np.bool_))
        newest = groups.newest
        identities = [records.identities[index] for index in newest.tolist()]
        energy_uj = np.add.reduceat(records.weights[groups.order, rank], groups.starts)
        is_listed = self._may_enter(identities, energy_uj)
        for index in newest[is_listed].tolist():
            self._open(records, index)

    def _may_enter(self, identities: list[int], energy_uj: Floats) -> Bools:
        """Return which new processes may be listed; of ended ones those that would stay listed."""
        is_alive = np.array([each not in self._ended for each in identities], np.bool_)
        return is_alive | self._retention.chosen(~is_alive, energy_uj)

    def _open(self, records: LinkedRecords, index: int) -> None:
        """List the process of the record at *index*, if there is a place."""
        table, task = self.processes, records.tasks[index]
        owner = self._groups.owner(int(task["cgroup_id"]))
        if not table.places.has_room(owner):
            return
        tgid, start_ns = int(task["tgid"]), int(task["process_start_ns"])
        container = int(records.containers[index])
        container_id = self._groups.container_id(container)
        name = self._name(records, index)
        exe, vm_id = name.exe or table.parent_exe(task), name.vm.vm_id if name.vm else ""
        label = make_label(tgid, start_ns, comm_of(task), exe, container_id, vm_id)
        # A pid has one owner: the earlier one has ended, even if that was not reported.
        earlier = int(table.columns["start_ns"][table.newest(tgid)])
        self._ended.add(identity_of(tgid, min(earlier, start_ns)))
        facts = (task[field] for field in FACTS.values())
        row = table.open(label, (start_ns, tgid, *facts, container), owner)
        self._selector.entered(row, records.identities[index])
        if name.vm:
            table.set_vm(row, name.vm)

    def _name(self, records: LinkedRecords, index: int) -> ProcessName:
        task, is_alive = records.tasks[index], records.identities[index] not in self._ended
        tgid, start_ns = int(task["tgid"]), int(task["process_start_ns"])
        exec_id = int(task["exec_id"])
        return self._naming.process(
            ProcessIdentity(tgid, start_ns, exec_id, comm_of(task), is_alive)
        )
