"""The totals of cgroups, and of the containers, pods and units they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from kepler_ebpf.ledger.aggregates import GroupTable
from kepler_ebpf.ledger.identity_index import NO_ROW, IdentityIndex, Majors
from kepler_ebpf.ledger.table import (
    RETIRED,
    EnergyColumns,
    Label,
    Retention,
    WorkloadTable,
    retire_links,
)
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.names import CgroupName, Naming
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, State, UnitLabels

LATE_INTERVALS = 2
"""A removed cgroup is kept for so many intervals, for the last slices of its tasks."""


class CgroupTotals:
    """Cgroups by id; each knows the rows of its container, of its pod and of its unit.

    A container is the sum of its cgroups, a pod of its containers and of cgroups that name the
    pod and no container, a unit of its cgroups whatever else these are. A joule enters a level
    once: what moves to another container or pod takes nothing along, what had none brings
    everything it was given.
    """

    def __init__(self, energy: EnergyColumns, naming: Naming, retention: Retention) -> None:
        self.cgroups: WorkloadTable[CgroupName] = WorkloadTable(
            energy, [("id", "u8"), ("container", "i8"), ("pod", "i8"), ("unit", "i8")]
        )
        self.containers: GroupTable[ContainerLabels] = GroupTable(energy, [("pod", "i8")])
        self.pods: GroupTable[PodLabels] = GroupTable(energy)
        self.units: GroupTable[UnitLabels] = GroupTable(energy)
        self._naming = naming
        self._retention = retention
        self._index = IdentityIndex()
        self._ending: dict[int, int] = {}
        self._now_s = 0.0

    # --- each interval

    def rows_of(self, cgroup_ids: Majors, *, create: bool) -> Ints:
        """Return the cgroup row of each record. Unknown ids are named, or else are RETIRED."""
        rows = self._find(cgroup_ids)
        unknown = rows == NO_ROW
        if not unknown.any():
            return rows
        if not create:
            return np.where(unknown, RETIRED, rows)
        for cgroup_id in np.unique(cgroup_ids[unknown]).tolist():
            self._open(cgroup_id)
        return self._find(cgroup_ids)

    def credit(self, rows: Ints, weights: Floats, part: float) -> None:
        """Add *weights* (records, kinds + 1) to the cgroups and to what they belong to."""
        rows, sums = self.cgroups.credit(rows, weights, part)
        for table, column in (
            (self.containers, "container"),
            (self.pods, "pod"),
            (self.units, "unit"),
        ):
            if table.is_used:
                table.credit(self.cgroups.columns[column][rows], sums, part)

    def ended(self, cgroup_ids: Iterable[int]) -> None:
        """Note removed cgroups, known or not; they end with the interval."""
        self._ending.update(dict.fromkeys(cgroup_ids, LATE_INTERVALS))

    def end_interval(self, now_s: float, *, owing: bool) -> None:
        """End what was removed, and fold what is to be listed no longer.

        No cgroup is forgotten while energy is *owing*.
        """
        self._now_s = now_s
        if self._ending:
            self._end_removed()
            if not owing:
                self._forget_removed()
        self._fold_ended()
        for table in (self.cgroups, self.containers, self.pods, self.units):
            table.close_interval()

    # --- names

    def container_id(self, row: int) -> str:
        """Return the container of a cgroup, "" where it has none."""
        return self.name(row).container_id

    def is_running(self, container_id: str) -> bool:
        """Whether a container is listed as running."""
        row = self.containers.row_of(container_id)
        return row != NO_ROW and bool(self.containers.state[row] == State.RUNNING)

    def name(self, row: int) -> CgroupName:
        """Return the name of a cgroup."""
        return self.cgroups.label(row)

    def relabel_cgroup(self, cgroup_id: int, name: CgroupName) -> None:
        """Give a cgroup a better name; where that has no container or pod, both stay.

        Of a cgroup that is gone the container, which is listed for longer, is named.
        """
        row = int(self._find(np.array([cgroup_id], np.uint64))[0])
        if row != NO_ROW:
            self.cgroups.set_label(row, name)
            self._assign(row, name)
        if name.container:
            self.relabel_container(name.container)

    def relabel_container(self, labels: ContainerLabels) -> None:
        """Show a listed container under new labels; a pod id in them is its pod from now on."""
        row = self.containers.row_of(labels.container_id)
        if row == NO_ROW:
            return
        self.containers.set_label(row, labels)
        self._set_pod(row, self._pod_row(labels.pod_id))

    def relabel_pod(self, pod_id: str, labels: PodLabels) -> None:
        """Show a listed pod under new labels; an id in them is its id from now on.

        Where that is listed as well, the two are one from now on.
        """
        row = self.pods.row_of(pod_id)
        if row == NO_ROW:
            return
        if labels.pod_id != pod_id:
            row = self._rename_pod(row, labels.pod_id)
        self.pods.set_label(row, labels)
        containers = self.containers
        listed = containers.state != State.FREE
        for container in np.flatnonzero(listed & (containers.columns["pod"] == row)).tolist():
            self._show_pod(container)

    # --- inside

    def _find(self, cgroup_ids: Majors) -> Ints:
        return self._index.find(cgroup_ids, np.zeros(len(cgroup_ids), np.uint32))

    def _open(self, cgroup_id: int) -> None:
        name = self._naming.cgroup(cgroup_id)
        row = self.cgroups.add(name, (cgroup_id, NO_ROW, NO_ROW, NO_ROW))
        self._index.add(np.array([cgroup_id], np.uint64), np.zeros(1, np.uint32), np.array([row]))
        self._assign(row, name)

    def _assign(self, row: int, name: CgroupName) -> None:
        """Make a cgroup part of the container and the pod of *name*."""
        columns = self.cgroups.columns
        had_container, had_pod = int(columns["container"][row]), int(columns["pod"][row])
        container = self._container_row(name.container) if name.container else had_container
        pod = self._pod_row(name.container.pod_id if name.container else "")
        pod = pod if pod != NO_ROW else self._pod_row(name.pod_id)
        if container >= 0:
            self._set_pod(container, pod if pod != NO_ROW else had_pod)
            pod = int(self.containers.columns["pod"][container])
        elif pod == NO_ROW:
            pod = had_pod
        if self.cgroups.state[row] == State.RUNNING:
            self._enter(container, pod)
            self._leave(had_container, had_pod)
        if had_container == NO_ROW:
            # Else a container has its energy, and is in a pod with it or is not.
            self._bring(row, self.containers, container)
            if had_pod == NO_ROW:
                self._bring(row, self.pods, pod)
        columns["container"][row], columns["pod"][row] = container, pod
        if name.unit and columns["unit"][row] == NO_ROW:
            self._assign_unit(row, name.unit)

    def _assign_unit(self, row: int, labels: UnitLabels) -> None:
        unit = self.units.row_of(labels.unit)
        if unit == NO_ROW:
            unit = self.units.open(labels.unit, labels, self._now_s)
        if self.cgroups.state[row] == State.RUNNING:
            self.units.join(unit)
        self._bring(row, self.units, unit)
        self.cgroups.columns["unit"][row] = unit

    def _container_row(self, labels: ContainerLabels) -> int:
        row = self.containers.row_of(labels.container_id)
        if row != NO_ROW:
            return row
        return self.containers.open(labels.container_id, labels, self._now_s, NO_ROW)

    def _pod_row(self, pod_id: str) -> int:
        row = self.pods.row_of(pod_id)
        if row != NO_ROW or not pod_id:
            return row
        labels = self._naming.pod(pod_id)
        row = self.pods.row_of(labels.pod_id)
        return row if row != NO_ROW else self.pods.open(labels.pod_id, labels, self._now_s)

    def _rename_pod(self, row: int, pod_id: str) -> int:
        into = self.pods.rename(row, pod_id)
        if into != row:
            for columns in (self.cgroups.columns, self.containers.columns):
                columns["pod"][columns["pod"] == row] = into
        return into

    def _show_pod(self, container: int) -> None:
        """Let a container's labels name the pod that has its energy."""
        pod = int(self.containers.columns["pod"][container])
        labels = self.containers.label(container)
        if pod >= 0 and labels.pod_id != self.pods.label(pod).pod_id:
            pod_id = self.pods.label(pod).pod_id
            self.containers.set_label(container, replace(labels, pod_id=pod_id))

    def _set_pod(self, container: int, pod: int) -> None:
        """Make a container part of a pod, and show it there; ``NO_ROW`` leaves it where it is."""
        had = int(self.containers.columns["pod"][container])
        if pod >= 0 and pod != had:
            self._move(container, had, pod)
        self._show_pod(container)

    def _move(self, container: int, had: int, pod: int) -> None:
        """Bring a container into a pod, with what it was given while it had none."""
        columns = self.containers.columns
        if columns["live"][container]:
            self.pods.join(pod)
            self._leave(NO_ROW, had)
        if had == NO_ROW:
            energy_uj, cpu_ns = self.containers.energy_uj, self.containers.cpu_ns
            self.pods.carry_over(pod, energy_uj[container], int(cpu_ns[container]))
        columns["pod"][container] = pod
        cgroups = self.cgroups.columns
        cgroups["pod"][cgroups["container"] == container] = pod

    def _bring(self, cgroup: int, table: GroupTable[Label], has: int) -> None:
        """Carry a cgroup's totals over into the row it has now, if any, and had none before."""
        if has >= 0:
            energy_uj, cpu_ns = self.cgroups.energy_uj, self.cgroups.cpu_ns
            table.carry_over(has, energy_uj[cgroup], int(cpu_ns[cgroup]))

    def _enter(self, container: int, pod: int) -> None:
        """Count a running cgroup in its container, or in its pod where it has no container."""
        first = container < 0 or self.containers.join(container)
        if first and pod >= 0:
            self.pods.join(pod)

    def _leave(self, container: int, pod: int) -> None:
        """Take back what ``_enter`` counted."""
        last = container < 0 or self.containers.leave(container, self._now_s)
        pod = int(self.containers.columns["pod"][container]) if container >= 0 else pod
        if last and pod >= 0:
            self.pods.leave(pod, self._now_s)

    def _end_removed(self) -> None:
        rows = self._find(np.fromiter(self._ending, np.uint64, len(self._ending)))
        running = rows[(rows >= 0) & (self.cgroups.state[rows] == State.RUNNING)]
        self.cgroups.end(running, self._now_s)
        for _, container, pod, unit in self.cgroups.columns[running].tolist():
            self._leave(container, pod)
            if unit >= 0:
                self.units.leave(unit, self._now_s)
        self._ending = {key: left - 1 for key, left in self._ending.items()}

    def _forget_removed(self) -> None:
        """Fold removed cgroups for which nothing can come any more."""
        cgroup_ids = np.array([key for key, left in self._ending.items() if left < 0], np.uint64)
        if not len(cgroup_ids):
            return
        rows = self._find(cgroup_ids)
        self._index.discard(cgroup_ids, np.zeros(len(cgroup_ids), np.uint32))
        self.cgroups.release(rows[rows >= 0])
        for cgroup_id in cgroup_ids.tolist():
            del self._ending[cgroup_id]

    def _fold_ended(self) -> None:
        of_cgroups, of_containers = self.cgroups.columns, self.containers.columns
        self._fold_due(self.containers, of_cgroups["container"])
        self._fold_due(self.pods, of_cgroups["pod"], of_containers["pod"])
        self._fold_due(self.units, of_cgroups["unit"])

    def _fold_due(self, table: GroupTable[Label], *links: Ints) -> None:
        gone = table.due(self._now_s, self._retention)
        if len(gone):
            for each in links:
                retire_links(each, gone)
            table.release(gone)
