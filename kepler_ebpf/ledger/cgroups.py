"""The totals of cgroups, and of the containers, pods and others they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kepler_ebpf.ledger.groups import NONE, RETIRED, GroupTable
from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.records import LinkedRecords
from kepler_ebpf.ledger.table import Retention, Table
from kepler_ebpf.model.arrays import Bools, Ints
from kepler_ebpf.model.bounds import Limit, MaxListed
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.names import CgroupName, Naming
from kepler_ebpf.model.selection import Selection
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, State

LATE_INTERVALS = 2
"""A removed cgroup is kept for so many configured intervals, for the last slices of its tasks."""

BY_PATH = [level.name for level in WORKLOAD_LEVELS.values() if level.by_path]
"""The kinds of workloads that the name of a cgroup may have beside its container and pod."""

GONE = 0
"""The row of cgroups with what forgotten ones had, and those for which there is no place."""

MAX_CGROUPS = 20_000
"""Cgroups with a row; those beyond are in no container."""


class CgroupTotals:
    """Cgroups by id; each has links to its container, its pod and the others found by its path.

    A container has what its cgroups used in it; a pod what its containers have, and what cgroups
    used that name the pod and no container; a workload found by path what its cgroups used whatever
    else these are.
    Each joule is counted once per level: what a cgroup used in one container or pod stays there
    when it moves to another.
    A workload of cgroups that are not selected is in ``OTHERS``, and no process in these is listed.
    """

    def __init__(
        self,
        kinds: int,
        naming: Naming,
        retention: Retention,
        limits: Mapping[str, Limit],
        most: MaxListed,
        selection: Selection,
    ) -> None:
        columns = [*((name, "i8") for name in ("container", "pod", *BY_PATH)), ("is_wanted", "?")]
        of_cgroups = Places(limits["cgroup"], MAX_CGROUPS)
        places = {level: Places(limit, most.others) for level, limit in limits.items()}
        self.cgroups: Table[CgroupName] = Table(kinds, of_cgroups, columns, reserved=1)
        self.containers: GroupTable[ContainerLabels] = GroupTable(
            kinds, places["container"], self.cgroups, "container", [("pod", "i8")]
        )
        self.pods: GroupTable[PodLabels] = GroupTable(kinds, places["pod"], self.cgroups, "pod")
        self.pods.linked.append((self.containers, "pod"))
        self.by_path: dict[str, GroupTable[Any]] = {
            level: GroupTable(kinds, places[level], self.cgroups, level) for level in BY_PATH
        }
        others = self.by_path.values()
        self._groups: tuple[GroupTable[Any], ...] = (self.containers, self.pods, *others)
        self.tables: tuple[Table[Any], ...] = (self.cgroups, *self._groups)
        self._naming = naming
        self._retention = retention
        self._paths, self._namespaces = selection.cgroup, selection.namespace
        takes_all = self._paths.takes_all and self._namespaces.takes_all
        self.cgroups.columns["is_wanted"][GONE] = takes_all
        self._row_by_id: dict[int, int] = {}
        self._removed: dict[int, int | None] = {}

    # --- each batch

    def rows_of(self, cgroup_ids: list[int]) -> Ints:
        """Return the cgroup row of each id; unknown ones are named."""
        for cgroup_id in sorted(set(cgroup_ids) - self._row_by_id.keys()):
            name, row = self._naming.cgroup(cgroup_id), GONE
            if self.cgroups.places.has_room(name.owner):
                row = self.cgroups.add(name, name.owner)
                self._assign(row, name)
            self._row_by_id[cgroup_id] = row
        return np.array([self._row_by_id[cgroup_id] for cgroup_id in cgroup_ids], np.int64)

    def containers_of(self, rows: Ints) -> Ints:
        """Return the container row of cgroups, ``NONE`` where that is listed no longer."""
        links = self.containers.links[rows]
        return np.where(links == RETIRED, NONE, links)

    def are_wanted(self, rows: Ints) -> Bools:
        """Return of which cgroups the processes are listed."""
        wanted: Bools = self.cgroups.columns["is_wanted"][rows]
        return wanted

    def is_wanted(self, cgroup_id: int) -> bool:
        """Whether the processes of a cgroup are listed."""
        return bool(self.cgroups.columns["is_wanted"][self._row_by_id.get(cgroup_id, GONE)])

    def credit(self, rows: Ints, records: LinkedRecords) -> None:
        """Add what was used to the cgroups *rows* (records,), and to what they belong to."""
        self.cgroups.credit(rows, records.weights, records.recent)
        for table in self._groups:
            table.credit_groups(rows, records)

    def names_of(self, cgroup_ids: list[int]) -> tuple[CgroupName | None, ...]:
        """Return the name of each cgroup, None where it has no row."""
        rows = [self._row_by_id.get(cgroup_id, GONE) for cgroup_id in cgroup_ids]
        return tuple(self.cgroups.labels[row] for row in rows)

    def ended(self, cgroup_ids: Iterable[int]) -> None:
        """Note removed cgroups, known or not; they end with the batch."""
        self._removed.update(dict.fromkeys(cgroup_ids))

    def owner(self, cgroup_id: int) -> str:
        """Return the owner of a cgroup, "" where it has no row."""
        return self.cgroups.places.owner(self._row_by_id.get(cgroup_id, GONE))

    def close(self, grid: int, rank: int) -> Ints:
        """End what was removed, retire what is to be listed no longer; return containers of that.

        *grid* is the number of the last configured interval that was measured, or a part of it.
        The kind *rank* chooses which ended groups are listed.
        """
        if self._removed:
            self._end_removed(grid)
        gone, _, _ = (table.retire_due(self._retention, rank) for table in self._groups)
        return gone

    # --- names

    def container_id(self, container: int) -> str:
        """Return the id of a container by its row, "" for ``NONE``."""
        return self.containers.label(container).container_id if container > RETIRED else ""

    def relabel_cgroup(self, cgroup_id: int, name: CgroupName) -> tuple[int, int]:
        """Give a cgroup a better name; where that has no container or pod, both stay.

        Of a cgroup that is gone the container, which is listed for longer, is named. Return the
        container that the cgroup was in, and the one that it is in.
        """
        row = self._row_by_id.get(cgroup_id, GONE)
        had = int(self.containers.links[row])
        if row != GONE:
            self.cgroups.set_label(row, name)
            self._assign(row, name)
        container = self.containers.row_of(name.container_id)
        if name.container and container != NONE:
            self.containers.set_label(container, name.container)
            self._set_pod(container, self._pod_row(name.container.pod_id, name))
        return had, int(self.containers.links[row])

    def relabel_pod(self, pod_id: str, labels: PodLabels) -> None:
        """Show a listed pod under new labels; an id in them is its id from now on.

        Where that is listed as well, the two are one from now on.
        """
        if not self._namespaces.takes_all:
            self._select_again(pod_id)
        row = self.pods.row_of(pod_id)
        if row == NONE:
            return
        if labels.pod_id != pod_id:
            row = self.pods.rename(pod_id, labels.pod_id)
        self.pods.set_label(row, labels)
        for container in np.flatnonzero(self.containers.columns["pod"] == row).tolist():
            self._show_pod(container)

    # --- inside

    def _assign(self, row: int, name: CgroupName) -> None:
        """Link a cgroup to the container, the pod and the other workloads of *name*."""
        had, had_pod, *_ = self.cgroups.columns[row].tolist()
        rows, container, pod = np.array([row]), had, NONE
        is_wanted = self.cgroups.columns["is_wanted"][row] = self._selects(name)
        if name.container:
            container = self.containers.open(
                name.container_id, name.container, name.owner, is_wanted=is_wanted
            )
            pod = self._pod_row(name.container.pod_id, name)
        pod = pod or self._pod_row(name.pod_id, name)
        pod = pod or int(self.containers.columns["pod"][container]) or had_pod
        if self.containers.is_one(container):
            self._set_pod(container, pod)
        self.containers.relink(rows, container)
        # What it used in another container is in a pod with that or is in none.
        self.pods.relink(rows, pod, stay=had not in {NONE, container})
        for level, labels in name.groups:
            if self.cgroups.columns[level][row] == NONE:
                group = self.by_path[level]
                to = group.open(labels, labels, name.owner, is_wanted=is_wanted)
                group.relink(rows, to)

    def _selects(self, name: CgroupName) -> bool:
        """Whether a cgroup is selected; not while what is to be matched is not known."""
        if not self._paths.takes_all and not (name.path and self._paths.takes(name.path)):
            return False
        pod_id = pod_id_of(name)
        if self._namespaces.takes_all or not pod_id:
            return self._namespaces.takes("")
        namespace = self._naming.pod(pod_id).pod_namespace
        return bool(namespace) and self._namespaces.takes(namespace)

    def _select_again(self, pod_id: str) -> None:
        """List what is in a pod whose namespace is known by now, if that is selected."""
        held = np.flatnonzero(~self.cgroups.columns["is_wanted"][: self.cgroups.size])
        for row in held.tolist():
            name = self.cgroups.labels[row]
            if name and pod_id_of(name) == pod_id:
                self._assign(row, name)

    def _pod_row(self, pod_id: str, name: CgroupName) -> int:
        """Return the row of a pod that a cgroup of *name* is in."""
        row = self.pods.row_of(pod_id)
        if row != NONE or not pod_id:
            return row
        labels = self._naming.pod(pod_id)
        return self.pods.open(labels.pod_id, labels, name.owner, is_wanted=self._selects(name))

    def _set_pod(self, container: int, pod: int) -> None:
        """Make a container part of a pod, and show it there; ``NONE`` leaves it where it is."""
        had = int(self.containers.columns["pod"][container])
        if pod not in {NONE, had}:
            if had == NONE:
                self.pods.add_from(self.containers, np.array([container]), np.array([pod]))
            self.pods.relink(np.flatnonzero(self.containers.links == container), pod, stay=True)
            self.containers.columns["pod"][container] = pod
        self._show_pod(container)

    def _show_pod(self, container: int) -> None:
        """Let a container's labels name the pod that has its energy."""
        pod = int(self.containers.columns["pod"][container])
        if pod > RETIRED:
            labels, pod_id = self.containers.label(container), self.pods.label(pod).pod_id
            self.containers.set_label(container, replace(labels, pod_id=pod_id))

    def _end_removed(self, grid: int) -> None:
        """End removed cgroups, and forget those for which nothing can come any more."""
        forgotten = []
        for cgroup_id, noted in list(self._removed.items()):
            until = grid + LATE_INTERVALS if noted is None else noted
            row = self._row_by_id.get(cgroup_id, GONE)
            if self.cgroups.state[row] == State.RUNNING:
                self.cgroups.set_state(row, State.TERMINATED)
            self._removed[cgroup_id] = until
            # Where a late record has a forgotten one named, its end is noted again.
            if until <= grid or (row == GONE and len(self._removed) > MAX_CGROUPS):
                del self._removed[cgroup_id]
                if self._row_by_id.pop(cgroup_id, GONE) != GONE:
                    forgotten.append(row)
        if forgotten:
            self.cgroups.move(np.array(forgotten), np.full(len(forgotten), GONE))


def pod_id_of(name: CgroupName) -> str:
    """Return the id of the pod that a cgroup is in, "" for none."""
    return name.pod_id or (name.container.pod_id if name.container else "")
