"""Totals since start: of the node, and of each process, container, virtual machine, pod and unit.

Each joule and nanosecond credited is counted once at each level it belongs to, in a row or among
the retired. Totals never fall, and reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.ledger.cgroups import GONE, CgroupTotals
from kepler_ebpf.ledger.node import NodeTotals
from kepler_ebpf.ledger.places import Places
from kepler_ebpf.ledger.processes import ProcessTotals
from kepler_ebpf.ledger.records import Batch, Pids, Starts, link
from kepler_ebpf.ledger.table import Retention
from kepler_ebpf.ledger.tasks import TaskTotals
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.bounds import DEFAULT_MAX, Limit, MaxListed
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.names import CgroupName, Naming, ProcessName
from kepler_ebpf.model.selection import ALL, Selection
from kepler_ebpf.model.snapshot import CgroupsView, NodeView
from kepler_ebpf.model.workloads import PodLabels, WorkloadView

__all__ = ["Batch", "Ledger", "Retention"]


class Ledger:
    """The totals of one run. For one thread; views are snapshots for any.

    *retention* chooses which ended processes stay listed; containers, virtual machines, pods and
    units stay by the same time and count whatever they used. *most* limits how many workloads are
    listed at all, and *selection* which of them. Tasks are counted *with_tasks* only. Raises
    ValueError without zones.
    """

    def __init__(
        self,
        zones: tuple[Zone, ...],
        naming: Naming,
        retention: Retention,
        most: MaxListed = DEFAULT_MAX,
        selection: Selection = ALL,
        *,
        with_tasks: bool = False,
    ) -> None:
        if not zones:
            raise ValueError("a ledger needs at least one zone")
        self.kinds = zone_kinds(zones)
        names = ("cgroup", *WORKLOAD_LEVELS)
        limits = {
            name: Limit(name, "what has no place is in [others], or of cgroups in no container")
            for name in names
        }
        self.limits = tuple(limits.values())
        count = len(self.kinds)
        self.groups = CgroupTotals(count, naming, retention, limits, most, selection)
        places = Places(limits["process"], most.processes), Places(limits["vm"], most.others)
        self._processes = ProcessTotals(count, naming, self.groups, retention, places, selection)
        self._tables = (*self.groups.tables, self._processes.processes, self._processes.vms)
        self._tasks = TaskTotals(len(self.kinds)) if with_tasks else None
        self._node = NodeTotals(zones)
        self._grid = 0
        self._views: dict[str, WorkloadView] | None = None

    # --- each batch

    def credit(self, batch: Batch) -> None:
        """Add *batch* to every total it belongs to; then end and retire what is due.

        New cgroups, processes and pods are named on the way. Views show the last closed interval,
        with what earlier batches had of it; before one has closed, everything since start.
        """
        self._views = None
        self._node.credit(batch)
        rank = self.kinds.index(self._node.primary_kind())
        for table in self._tables:
            table.begin(batch.end_s, batch.shown)
        if self._tasks:
            self._tasks.begin(batch.end_s, batch.shown)
        if len(batch.records):
            rows = self.groups.rows_of(batch.records["cgroup_id"].tolist())
            records = link(batch, self.groups.containers_of(rows), self.groups.are_wanted(rows))
            self.groups.credit(rows, records)
            self._processes.credit(records, rank)
            if self._tasks:
                self._tasks.credit(records)
        if len(batch.interval_grid):
            self._grid = int(batch.interval_grid[-1])
        self._processes.close(rank, gone_containers=self.groups.close(self._grid, rank))

    def ended_cgroups(self, cgroup_ids: Iterable[int]) -> None:
        """Note that cgroups were removed, before or after their last records are credited.

        A container none of whose cgroups is left is terminated with the next batch.
        """
        self.groups.ended(cgroup_ids)

    def ended_processes(self, tgids: Pids, start_ns: Starts) -> None:
        """Note that processes are gone whose end the kernel side could not report."""
        self._processes.ended(tgids, start_ns)

    def running_processes(self) -> tuple[Pids, Starts]:
        """Return pid and start of each process that is listed as running."""
        return self._processes.running()

    # --- names learned later

    def relabel_process(self, tgid: int, start_ns: int, name: ProcessName) -> None:
        """Give a process a better name; one that is not listed is left alone."""
        self._views = None
        self._processes.relabel(tgid, start_ns, name)

    def relabel_cgroup(self, cgroup_id: int, name: CgroupName) -> None:
        """Give a cgroup a better name, and with it its container, pod and listed processes.

        What it used in no container or pod so far is theirs.
        """
        self._views = None
        had, container = self.groups.relabel_cgroup(cgroup_id, name)
        if container != had:
            self._processes.move_cgroup(cgroup_id, had, container)
        if not self.groups.is_wanted(cgroup_id):
            self._processes.unlist_cgroup(cgroup_id)

    def relabel_pod(self, pod_id: str, labels: PodLabels) -> None:
        """Show a pod under new labels; one that is not listed is left alone.

        An id in them that is another than *pod_id* is the pod's from now on, and where a pod is
        listed under that too, the two are one, with the energy of both.
        """
        self._views = None
        self.groups.relabel_pod(pod_id, labels)

    # --- reading

    def views(self) -> dict[str, WorkloadView]:
        """Return the totals and the last closed interval of every level of workloads, by name."""
        if self._views is None:
            self._views = {
                "process": self._processes.view(),
                "container": self.groups.containers.view(),
                "vm": self._processes.vms.view(),
                "pod": self.groups.pods.view(),
                **{level: table.view() for level, table in self.groups.by_path.items()},
            }
        return self._views

    def cgroups(self) -> CgroupsView:
        """Return the same of every cgroup, and in which one each row of processes is."""
        processes = self._processes.processes
        ids = processes.columns["cgroup_id"][: processes.size].tolist()
        return CgroupsView(self.groups.cgroups.make_view([GONE]), self.groups.names_of(ids))

    def tasks(self) -> WorkloadView | None:
        """Return the same of every task, None where the ledger was made without them."""
        return self._tasks.view() if self._tasks else None

    def totals_of(self, tgid: int, start_ns: int) -> tuple[Floats, float]:
        """Return a process's energy (kinds,) in µJ and its CPU ns; zeros if it is not listed."""
        return self._processes.totals_of(tgid, start_ns)

    def node(self, usage_ratio: float) -> NodeView:
        """Return the node's totals and last closed interval, with its busy share 0..1."""
        return self._node.view(usage_ratio)
