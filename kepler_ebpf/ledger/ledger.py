"""Totals since start: of the node, and of each process, container, machine, pod and unit.

Every joule and nanosecond credited is, at each level it belongs to, in exactly one row or among
the retired. Totals never fall, and reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.ledger.cgroups import CgroupTotals
from kepler_ebpf.ledger.identity_index import Majors, Minors
from kepler_ebpf.ledger.processes import ProcessTotals
from kepler_ebpf.ledger.records import make_batch
from kepler_ebpf.ledger.table import EnergyColumns, Retention, frozen
from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.energy import PRIMARY_ORDER, Attribution, Zone
from kepler_ebpf.model.names import CgroupName, Naming, ProcessName
from kepler_ebpf.model.snapshot import NodeView
from kepler_ebpf.model.workloads import PodLabels, WorkloadView

__all__ = ["CgroupName", "Ledger", "LedgerViews", "Naming", "ProcessName", "Retention"]


@dataclass(frozen=True, slots=True)
class LedgerViews:
    """The workload tables at one moment."""

    processes: WorkloadView
    containers: WorkloadView
    vms: WorkloadView
    pods: WorkloadView
    units: WorkloadView


class Ledger:
    """The account of one run. Used by one thread; the views it gives belong to nobody.

    An interval is any number of ``credit`` calls and then one ``end_interval``. *retention* says
    which ended processes stay listed; containers, machines and pods stay by the same time and
    count whatever they drew. Raises ValueError without zones.
    """

    def __init__(self, zones: tuple[Zone, ...], naming: Naming, retention: Retention) -> None:
        if not zones:
            message = "a ledger needs at least one zone"
            raise ValueError(message)
        self.kinds = zone_kinds(zones)
        energy = EnergyColumns(len(self.kinds), self.kinds.index(_primary(self.kinds)))
        self._groups = CgroupTotals(energy, naming, replace(retention, min_uj=0.0))
        self._processes = ProcessTotals(energy, naming, self._groups, retention)
        self._node = _NodeAccount(zones)

    # --- each interval

    def credit(
        self,
        tasks: Records,
        attribution: Attribution,
        *,
        count_cpu: bool = True,
        interval_part: float = 1.0,
    ) -> None:
        """Add an *attribution* of *tasks* (``layout.TASK``) to every total it belongs to.

        New cgroups and processes are named on the way. With ``count_cpu=False`` the tasks are
        those of earlier intervals, given again for the energy of a zone that could not be read
        then: credit them after the interval's own. Their CPU time is not counted twice, and what
        has been retired meanwhile is not listed again. *interval_part* of the energy counts as the
        current interval's in the views; the totals get all of it.
        """
        self._node.credit(attribution, interval_part)
        if not len(tasks):
            return
        weights = np.empty((len(tasks), len(self.kinds) + 1))
        weights[:, :-1] = attribution.shares_uj
        weights[:, -1] = tasks["cpu_ns"] if count_cpu else 0
        cgroup_rows = self._groups.rows_of(tasks["cgroup_id"], create=count_cpu)
        batch = make_batch(tasks, cgroup_rows, weights)
        process_rows = self._processes.rows_of(batch, create=count_cpu)
        self._groups.credit(cgroup_rows, weights, interval_part)
        self._processes.credit(process_rows, weights, interval_part)

    def ended_cgroups(self, cgroup_ids: Iterable[int]) -> None:
        """Note that cgroups were removed, before or after their last records are credited.

        A container none of whose cgroups is left is terminated with the interval.
        """
        self._groups.ended(cgroup_ids)

    def ended_processes(self, tgids: Minors, start_ns: Majors) -> None:
        """Note that processes are gone whose end the kernel side had no room to report."""
        self._processes.ended(start_ns, tgids)

    def running_processes(self) -> tuple[Minors, Majors]:
        """Return pid and start of each process listed as running, for a look at whether it is."""
        return self._processes.running()

    def end_interval(self, now_s: float, *, owing: bool = False) -> None:
        """Close the interval at *now_s*, monotonic: end, retire and fold what is due.

        While a zone is *owing* energy for earlier intervals, it stays known which container,
        machine, pod and unit was whose.
        """
        self._processes.end_interval(now_s, owing=owing)
        self._groups.end_interval(now_s, owing=owing)
        self._node.end_interval()

    # --- names learned later

    def relabel_process(self, tgid: int, start_ns: int, name: ProcessName) -> None:
        """Give a process a better name; one that is not listed is left alone."""
        self._processes.relabel(tgid, start_ns, name)

    def relabel_cgroup(self, cgroup_id: int, name: CgroupName) -> None:
        """Give a cgroup a better name, and with it its container, pod and processes.

        A container or pod that had none of this cgroup's energy gets all of it.
        """
        self._groups.relabel_cgroup(cgroup_id, name)
        if name.container:
            self._processes.set_container(cgroup_id, name.container_id)

    def relabel_pod(self, pod_id: str, labels: PodLabels) -> None:
        """Show a pod under new labels; one that is not listed is left alone.

        An id in them that is another than *pod_id* is the pod's from now on, and where a pod is
        listed under that too, the two are one, with the energy of both.
        """
        self._groups.relabel_pod(pod_id, labels)

    # --- reading

    def views(self) -> LedgerViews:
        """Return the totals and the last closed interval of every exported kind of workload."""
        return LedgerViews(
            processes=self._processes.processes.view(),
            containers=self._groups.containers.view(),
            vms=self._processes.vms.view(),
            pods=self._groups.pods.view(),
            units=self._groups.units.view(),
        )

    def totals_of(self, tgid: int, start_ns: int) -> tuple[Floats, int]:
        """Return a process's energy (kinds,) in µJ and its CPU ns; zeros if it is not listed."""
        return self._processes.totals_of(tgid, start_ns)

    def cgroups(self) -> WorkloadView:
        """Return the totals of the cgroups; their labels are ``CgroupName``."""
        return self._groups.cgroups.view()

    def node(self, usage_ratio: float) -> NodeView:
        """Return the node's totals and last closed interval, with its busy share 0..1."""
        return self._node.view(usage_ratio)


class _NodeAccount:
    """Energy, active, idle and unattributed µJ of every zone: arrays of shape (4, zones)."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self._zones = zones
        self._total_uj: Floats = frozen(np.zeros((4, len(zones))))
        self._pending_uj: Floats = np.zeros((4, len(zones)))
        self._earlier_uj: Floats = np.zeros((4, len(zones)))
        self._interval_uj: Floats = frozen(np.zeros((4, len(zones))))

    def credit(self, attribution: Attribution, interval_part: float) -> None:
        active_uj, idle_uj = attribution.active_uj, attribution.idle_uj
        given_uj = np.array((active_uj + idle_uj, active_uj, idle_uj, attribution.unattributed_uj))
        self._pending_uj += given_uj * interval_part
        self._earlier_uj += given_uj * (1.0 - interval_part)

    def end_interval(self) -> None:
        self._total_uj = frozen(self._total_uj + (self._pending_uj + self._earlier_uj))
        self._interval_uj = frozen(self._pending_uj)
        self._pending_uj = np.zeros_like(self._pending_uj)
        self._earlier_uj[:] = 0.0

    def view(self, usage_ratio: float) -> NodeView:
        energy_uj, active_uj, idle_uj, unattributed_uj = self._total_uj
        interval_energy_uj, interval_active_uj, interval_idle_uj, _ = self._interval_uj
        return NodeView(
            zones=self._zones,
            energy_uj=energy_uj,
            active_uj=active_uj,
            idle_uj=idle_uj,
            unattributed_uj=unattributed_uj,
            interval_energy_uj=interval_energy_uj,
            interval_active_uj=interval_active_uj,
            interval_idle_uj=interval_idle_uj,
            usage_ratio=usage_ratio,
        )


def _primary(kinds: tuple[str, ...]) -> str:
    """Return the kind that ranks ended workloads."""
    return next((kind for kind in PRIMARY_ORDER if kind in kinds), kinds[0])
