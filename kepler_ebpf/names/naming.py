"""The names of this host's workloads: what the loop and the ledger see of this room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kepler_ebpf.model.names import CgroupName, ExecEvent, Naming, ProcessIdentity, ProcessName
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.budget import NameBudget
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.paths import CgroupPaths, PathEvent
from kepler_ebpf.names.resolver import HostPaths, NameResolver, PodDirectory


@dataclass(frozen=True, slots=True)
class NamingOptions:
    """Where names are read (the procfs mount, the host's root directory as seen from here).

    ``retention_s`` is how long the path of an ended cgroup is kept. Systemd units and Slurm steps
    are named only with ``units``.
    """

    procfs: str = "/proc"
    host_root: str = "/"
    retention_s: float = 120.0
    units: bool = False


@dataclass(frozen=True, slots=True)
class NameUpdates:
    """Better names than were given before: cgroups by id, pods by id, processes by (pid, start).

    The labels of a pod may hold another id than the key, where the API has given it a new one.
    """

    cgroups: dict[int, CgroupName]
    pods: dict[str, PodLabels]
    processes: dict[tuple[int, int], ProcessName]


class HostNaming(Naming):
    """Names cgroups, pods and processes of this host. For the sampling thread alone."""

    def __init__(
        self,
        hierarchy: CgroupHierarchy,
        options: NamingOptions | None = None,
        pods: PodDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or NamingOptions()
        self._paths = CgroupPaths(hierarchy, options.retention_s, clock)
        places = HostPaths(options.procfs, options.host_root)
        resolver = NameResolver(self._paths, places, pods, clock, units=options.units)
        self._budget = NameBudget(resolver)

    def begin_batch(self, budget_s: float) -> None:
        """Grant *budget_s* seconds of reading to the questions of the next batch."""
        self._budget.begin_interval(budget_s * 10)

    def learn_cgroups(self, events: Iterable[PathEvent]) -> None:
        """Take in cgroups that were made or removed."""
        events = list(events)
        self._paths.learn(events)
        self._budget.meet(event.cgroup_id for event in events if not event.removed)

    def learn_execs(self, events: Iterable[ExecEvent]) -> None:
        """Take in execs; each names its process in this batch or the next."""

    def resync(self) -> None:
        """Check in the next calls of ``work`` which cgroups ended: the kernel lost events."""

    @property
    def has_work(self) -> bool:
        """Whether ``work`` has anything to do. Cheap."""
        return True

    def work(self, remaining_s: Callable[[], float]) -> None:
        """Read names that wait, while *remaining_s* allows."""
        self._budget.work(remaining_s)

    def updates(self) -> NameUpdates:
        """Return the better names that were found since the last call."""
        renewed = self._budget.renewed()
        return NameUpdates(renewed.cgroups, renewed.pods, renewed.processes)

    def take_ended_cgroups(self) -> tuple[int, ...]:
        """Return the ids of cgroups whose end was noticed since the last call."""
        return self._paths.take_ended()

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """See ``Naming``."""
        return self._budget.cgroup(cgroup_id)

    def process(self, identity: ProcessIdentity) -> ProcessName:
        """See ``Naming``."""
        tgid, start_ns, _, comm, _ = identity
        return self._budget.process(tgid, start_ns, comm, CgroupName(""))

    def pod(self, pod_id: str) -> PodLabels:
        """See ``Naming``."""
        return self._budget.pod(pod_id)

    def close(self) -> None:
        """Release what is held open; no questions after this."""
        self._paths.close()
