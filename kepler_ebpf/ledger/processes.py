"""The totals of processes, and of the virtual machines they run.

A process is its pid and its start together. What is known of one that lives is asked once; one
that came and went within an interval and drew little is retired without ever being a row. What the
kernel's map had no room for is one process of each container, and one for all that is in none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kepler_ebpf.ledger.aggregates import GroupTable
from kepler_ebpf.ledger.cgroups import CgroupTotals
from kepler_ebpf.ledger.identity_index import NO_ROW, IdentityIndex, Majors, Minors
from kepler_ebpf.ledger.records import Batch, group_by_process
from kepler_ebpf.ledger.table import RETIRED, EnergyColumns, Retention, WorkloadTable, retire_links
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.names import Naming, ProcessName
from kepler_ebpf.model.usage import OVERFLOW_COMM
from kepler_ebpf.model.workloads import ProcessLabels, State, VmLabels

COLUMNS = [
    ("start", "u8"),
    ("tgid", "u4"),
    ("cgroup_id", "u8"),
    ("exec_id", "u8"),
    ("comm", "S16"),
    ("vm", "i8"),
]


class ProcessTotals:
    """Processes by identity, and their machines. *groups* tells their containers."""

    def __init__(
        self, energy: EnergyColumns, naming: Naming, groups: CgroupTotals, retention: Retention
    ) -> None:
        self.processes: WorkloadTable[ProcessLabels] = WorkloadTable(energy, COLUMNS)
        self.vms: GroupTable[VmLabels] = GroupTable(energy)
        self._rank = energy.rank
        self._naming = naming
        self._groups = groups
        self._retention = retention
        self._index = IdentityIndex()
        self._running: dict[int, int] = {}
        self._rows_of_pid: dict[int, list[int]] = {}
        self._overflow: dict[str, int] = {}
        self._ended: list[Ints] = []
        self._now_s = 0.0

    # --- each interval

    def rows_of(self, batch: Batch, *, create: bool) -> Ints:
        """Return the process row of each record; ``RETIRED`` where it is not to be listed.

        With *create* the records are new: unknown processes get rows and labels follow what the
        records say. Without, they have been given before and what is unknown by now is retired.
        """
        rows = self._index.find(batch.starts, batch.tgids)
        unknown = np.flatnonzero(rows == NO_ROW)
        if not create:
            rows[unknown] = RETIRED
            self._place_overflow(batch, rows, unknown, create=False)
            return rows
        self._follow(batch, rows)
        if len(unknown):
            unknown = self._place_overflow(batch, rows, unknown, create=True)
        if len(unknown):
            self._admit(batch, rows, unknown)
        ended = rows[batch.ended]
        if len(ended):
            self._ended.append(ended[ended >= 0])
        return rows

    def credit(self, rows: Ints, weights: Floats, part: float) -> None:
        """Add *weights* (records, kinds + 1) to the processes and to their machines.

        For *part* see ``WorkloadTable.credit``.
        """
        rows, sums = self.processes.credit(rows, weights, part)
        if self.vms.is_used:
            self.vms.credit(self.processes.columns["vm"][rows], sums, part)

    def ended(self, starts: Majors, tgids: Minors) -> None:
        """Note processes that are gone, known or not; they end with the interval."""
        rows = self._index.find(starts, tgids)
        self._ended.append(rows[rows >= 0])

    def running(self) -> tuple[Minors, Majors]:
        """Return pid and start of every process that is listed as running."""
        rows = np.fromiter(self._running.values(), np.int64, len(self._running))
        columns = self.processes.columns[rows]
        return columns["tgid"], columns["start"]

    def totals_of(self, tgid: int, start_ns: int) -> tuple[Floats, int]:
        """Return the energy (kinds,) and the CPU ns of a process, zeros where it is not listed."""
        row = self._index.row(start_ns, tgid)
        if row == NO_ROW:
            return np.zeros(self.processes.energy_uj.shape[1]), 0
        return self.processes.energy_uj[row].copy(), int(self.processes.cpu_ns[row])

    def end_interval(self, now_s: float, *, owing: bool) -> None:
        """End what has exited, and fold what is to be listed no longer.

        What ran a machine stays while energy is *owing*: it may be the machine's.
        """
        self._now_s = now_s
        if self._overflow:
            self._end_overflow()
        if self._ended:
            self._end_noted()
        self._fold_ended(owing=owing)
        self.processes.close_interval()
        self.vms.close_interval()

    # --- names

    def relabel(self, tgid: int, start_ns: int, name: ProcessName) -> None:
        """Give a listed process a better name."""
        row = self._index.row(start_ns, tgid)
        if row != NO_ROW:
            self._rename(row, name)

    def set_container(self, cgroup_id: int, container_id: str) -> None:
        """Show the listed processes of a cgroup as part of a container."""
        in_use = self.processes.state != State.FREE
        in_cgroup = in_use & (self.processes.columns["cgroup_id"] == cgroup_id)
        for row in np.flatnonzero(in_cgroup).tolist():
            self._show(row, replace(self.processes.label(row), container_id=container_id))

    # --- inside: processes that are listed

    def _follow(self, batch: Batch, rows: Ints) -> None:
        """Relabel processes that called exec, changed their name or left their cgroup.

        A process whose threads are in several cgroups stays in the one it is shown in as long
        as any of them runs there.
        """
        columns, tasks = self.processes.columns, batch.tasks
        known = rows >= 0
        execed = known & (columns["exec_id"][rows] != tasks["exec_id"])
        differs = columns["cgroup_id"][rows] != tasks["cgroup_id"]
        differs |= columns["comm"][rows] != tasks["process_comm"]
        differs = (differs & known) | execed
        if not differs.any():
            return
        settled = np.isin(rows, rows[known & ~differs]) & ~np.isin(rows, rows[execed])
        changed = np.flatnonzero(differs & ~settled)
        if len(changed):
            for place in group_by_process(batch, changed).newest.tolist():
                self._update(batch, place, int(rows[place]))

    def _update(self, batch: Batch, place: int, row: int) -> None:
        """Describe a listed process as its record at *place* does."""
        columns, task = self.processes.columns, batch.tasks[place]
        execed = columns["exec_id"][row] != task["exec_id"]
        for field in ("cgroup_id", "exec_id"):
            columns[field][row] = task[field]
        columns["comm"][row] = task["process_comm"]
        label = self.processes.label(row)
        container_id = self._groups.container_id(int(batch.cgroup_rows[place]))
        self._show(row, replace(label, comm=batch.comm(place), container_id=container_id))
        if execed and not batch.ended[place]:
            self._rename(row, self._ask(batch, place))

    def _rename(self, row: int, name: ProcessName) -> None:
        label = self.processes.label(row)
        if name.vm:
            self._set_vm(row, name.vm)
        elif name.exe == label.exe:
            return
        vm_id = name.vm.vm_id if name.vm else label.vm_id
        self._show(row, replace(label, exe=name.exe, vm_id=vm_id))

    def _show(self, row: int, label: ProcessLabels) -> None:
        kind = _type(label.container_id, label.vm_id)
        self.processes.set_label(row, label if label.type == kind else replace(label, type=kind))

    def _set_vm(self, row: int, vm: VmLabels) -> None:
        """Make a process part of a machine, with what it was given while it had none."""
        had = int(self.processes.columns["vm"][row])
        has = self.vms.row_of(vm.vm_id)
        if has == NO_ROW:
            has = self.vms.open(vm.vm_id, vm, self._now_s)
        self.vms.set_label(has, vm)
        if self.processes.state[row] == State.RUNNING:
            self.vms.join(has)
            if had >= 0:
                self.vms.leave(had, self._now_s)
        if had == NO_ROW:
            energy_uj, cpu_ns = self.processes.energy_uj, self.processes.cpu_ns
            self.vms.carry_over(has, energy_uj[row], int(cpu_ns[row]))
        self.processes.columns["vm"][row] = has

    # --- inside: processes that are new

    def _admit(self, batch: Batch, rows: Ints, unknown: Ints) -> None:
        """Give rows to the processes of the records at *unknown*, or fold them."""
        groups = group_by_process(batch, unknown)
        order, starts = groups.order, groups.starts
        alive = ~np.logical_or.reduceat(batch.ended[order], starts)
        energy_uj = np.add.reduceat(batch.weights[order, self._rank], starts)
        listed = np.flatnonzero(alive | self._retention.chosen(~alive, energy_uj))
        row_of_group = np.full(len(starts), RETIRED)
        for group in listed.tolist():
            row_of_group[group] = self._open(batch, int(groups.newest[group]), alive=alive[group])
        rows[order] = np.repeat(row_of_group, np.diff(starts, append=len(order)))
        if len(listed):
            places = groups.newest[listed]
            self._index.add(batch.starts[places], batch.tgids[places], row_of_group[listed])

    def _open(self, batch: Batch, place: int, *, alive: bool) -> int:
        task, tgid = batch.tasks[place], int(batch.tgids[place])
        start = batch.starts[place]
        name = self._ask(batch, place) if alive else ProcessName()
        container_id = self._groups.container_id(int(batch.cgroup_rows[place]))
        vm_id = name.vm.vm_id if name.vm else ""
        label = ProcessLabels(
            pid=tgid,
            start_ns=int(start),
            comm=batch.comm(place),
            exe=name.exe,
            type=_type(container_id, vm_id),
            container_id=container_id,
            vm_id=vm_id,
        )
        values = (start, tgid, task["cgroup_id"], task["exec_id"], task["process_comm"], NO_ROW)
        row = self.processes.add(label, values)
        if name.vm:
            self._set_vm(row, name.vm)
        self._rows_of_pid.setdefault(tgid, []).append(row)
        if alive:
            self._replace_running(tgid, row)
        return row

    def _replace_running(self, tgid: int, row: int) -> None:
        """Note who has the pid now; who had it has exited, even if that was not seen."""
        previous = self._running.get(tgid)
        if previous is not None:
            self._ended.append(np.array([previous]))
        self._running[tgid] = row

    def _ask(self, batch: Batch, place: int) -> ProcessName:
        cgroup = self._groups.name(int(batch.cgroup_rows[place]))
        tgid, start_ns = int(batch.tgids[place]), int(batch.starts[place])
        return self._naming.process(tgid, start_ns, batch.comm(place), cgroup)

    # --- inside: tasks that the kernel's map had no room for

    def _place_overflow(self, batch: Batch, rows: Ints, places: Ints, *, create: bool) -> Ints:
        """Give rows to the records among *places* that are of no task; return the others."""
        is_overflow = batch.tgids[places] == 0
        for place in places[is_overflow].tolist():
            cgroup = int(batch.cgroup_rows[place])
            container_id = self._groups.container_id(cgroup) if cgroup >= 0 else ""
            rows[place] = self._overflow_row(container_id, create=create)
        others: Ints = places[~is_overflow]
        return others

    def _overflow_row(self, container_id: str, *, create: bool) -> int:
        row = self._overflow.get(container_id, RETIRED)
        if not create:
            return row
        if row == RETIRED:
            kind = _type(container_id, "")
            label = ProcessLabels(0, 0, OVERFLOW_COMM, "", kind, container_id, "")
            row = self.processes.add(label, (0, 0, 0, 0, OVERFLOW_COMM.encode(), NO_ROW))
            self._overflow[container_id] = row
        self.processes.start_again(row)
        return row

    def _end_overflow(self) -> None:
        """End those whose container has ended; what is in no container never ends."""
        for container_id, row in self._overflow.items():
            if container_id and not self._groups.is_running(container_id):
                self._ended.append(np.array([row]))

    # --- inside: processes that have ended

    def _end_noted(self) -> None:
        rows = np.unique(np.concatenate(self._ended))
        rows = rows[self.processes.state[rows] == State.RUNNING]
        self._ended = []
        self.processes.end(rows, self._now_s)
        columns = self.processes.columns[rows]
        for row, tgid, vm in zip(rows.tolist(), columns["tgid"], columns["vm"], strict=True):
            if self._running.get(int(tgid)) == row:
                del self._running[int(tgid)]
            if vm >= 0:
                self.vms.leave(int(vm), self._now_s)

    def _fold_ended(self, *, owing: bool) -> None:
        gone = self.processes.due(self._now_s, self._retention)
        if owing:
            gone = gone[self.processes.columns["vm"][gone] < 0]
        if len(gone):
            columns = self.processes.columns[gone]
            self._index.discard(columns["start"], columns["tgid"])
            self._leave_to_heirs(gone)
            self._overflow = {id_: row for id_, row in self._overflow.items() if row not in gone}
            self.processes.release(gone)
        gone = self.vms.due(self._now_s, replace(self._retention, min_uj=0.0))
        if len(gone):
            retire_links(self.processes.columns["vm"], gone)
            self.vms.release(gone)

    def _leave_to_heirs(self, gone: Ints) -> None:
        """Give the CPU time of rows to others that look the same but for their start.

        Both are one series of CPU seconds, which must not fall when one of them is retired.
        """
        pids = self.processes.columns["tgid"][gone].tolist()
        for pid, row in zip(pids, gone.tolist(), strict=True):
            heir = self._heir(pid, row) if pid else None
            if heir is not None:
                self.processes.leave_cpu_time(row, heir)

    def _heir(self, pid: int, row: int) -> int | None:
        """Take a row from its pid's; return another of them that looks the same."""
        left = self._rows_of_pid[pid]
        left.remove(row)
        if not left:
            del self._rows_of_pid[pid]
        return next((other for other in left if self._look_the_same(row, other)), None)

    def _look_the_same(self, one: int, other: int) -> bool:
        label = self.processes.label(other)
        return replace(self.processes.label(one), start_ns=label.start_ns) == label


def _type(container_id: str, vm_id: str) -> str:
    """Return Kepler's word for what a process is part of."""
    return "container" if container_id else "vm" if vm_id else "regular"
