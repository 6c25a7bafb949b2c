"""The names of this host's workloads: the interface of this package for the loop and the ledger.

An interval never waits for more files than it can afford. What there was no time for, and what is
not known yet, is pending: it is found between intervals, or when the index of pods changes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from kepler_ebpf.model.names import (
    CgroupEvent,
    CgroupName,
    ExecEvent,
    Naming,
    ProcessIdentity,
    ProcessName,
)
from kepler_ebpf.model.stats import NamingStats
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.cgroups.containers import (
    is_kata_overhead,
    match_container,
    resembles_container,
)
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.cgroups.strange import StrangePaths
from kepler_ebpf.names.container_names import ContainerNames
from kepler_ebpf.names.faults import Faults, tolerated
from kepler_ebpf.names.kubernetes.index import UNKNOWN_RETENTION_S, PodIndex
from kepler_ebpf.names.pending import PendingName, PendingNames
from kepler_ebpf.names.processes.process_names import ProcessNames
from kepler_ebpf.names.resolver import KubeletRoot, PodDirectory, Unknown, resolve

MARGIN_S = 0.002
"""Work between intervals stops so long before the next."""

MAX_RETRIES = 64
"""Pending cgroups and pods that are tried again inside one batch."""

MAX_PENDING = 20_000
"""Cgroups and pods that may be pending; beyond it those that have ended are dropped."""

MAX_WAIT_S = 0.05
"""A batch waits no longer than this for the command lines and for the runtimes' files it needs."""

RETRY_S = 1.0
GIVE_UP_S = 10.0
"""A cgroup without a path is tried again for so long; then it is gone."""


@dataclass(frozen=True, slots=True)
class NamingOptions:
    """Where names are read (the procfs mount, the host's root directory as seen from here).

    ``retention_s`` is how long the path of an ended cgroup is kept. Of the workloads that are found
    in its path, those of ``levels`` are named.
    """

    procfs: str = "/proc"
    host_root: str = "/"
    retention_s: float = 120.0
    levels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NameUpdates:
    """Better names than were given before: cgroups by id, pods by id, processes by (pid, start).

    The labels of a pod may hold another id than the key, where the API has given it a new one.
    """

    cgroups: dict[int, CgroupName] = field(default_factory=dict)
    pods: dict[str, PodLabels] = field(default_factory=dict)
    processes: dict[tuple[int, int], ProcessName] = field(default_factory=dict)


class HostNaming(Naming):
    """Names cgroups, pods and processes of this host. For the sampling thread alone."""

    def __init__(
        self,
        hierarchy: CgroupHierarchy,
        options: NamingOptions,
        pods: PodDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the cgroups of *hierarchy*; without *pods* a pod is known by its uid only."""
        self._clock = clock
        self._levels = options.levels
        self._index = pods.index if pods else PodIndex()
        self._paths = CgroupPaths(hierarchy, options.retention_s, clock)
        self._kubelet_root = KubeletRoot(pods, self._paths) if pods else None
        self._containers = ContainerNames(options.host_root)
        self._processes = ProcessNames(options.procfs, clock)
        self.readers = self._processes.reader, self._containers.reader
        self._pending = PendingNames(self._has_ended, self._index, MAX_PENDING)
        self._made: deque[int] = deque(maxlen=MAX_PENDING)
        self._updates = NameUpdates()
        self._strange = StrangePaths()
        self._wait_s = 0.0
        self.faults = Faults()

    # --- the loop

    def begin_batch(self, budget_s: float) -> None:
        """Let the names of the next batch take *budget_s* seconds of reading."""
        self._wait_s = min(budget_s / 2, MAX_WAIT_S)
        self._processes.begin_batch(budget_s)

    @tolerated(lambda *_: None)
    def learn_cgroups(self, events: Sequence[CgroupEvent]) -> None:
        """Take in cgroups that were made or removed."""
        self._paths.learn(events)
        self._made.extend(event.cgroup_id for event in events if not event.removed)

    @tolerated(lambda *_: None)
    def learn_execs(self, events: Iterable[ExecEvent]) -> None:
        """Take in execs. Each names its process in this batch and the next."""
        self._processes.learn(events)

    def resync(self) -> None:
        """Have ``work`` look for cgroups that have ended: the kernel has lost events."""
        self._paths.resync()

    @property
    def has_work(self) -> bool:
        """Whether ``work`` has anything to do. Cheap."""
        is_some = self._made or self._processes.has_unread or self._paths.has_checks
        return bool(is_some) or self._pending.has_due(self._clock())

    @tolerated(lambda *_: None)
    def work(self, remaining_s: Callable[[], float]) -> None:
        """Find pending names while *remaining_s* allows."""
        self._pending.wake(self._clock())
        while remaining_s() > MARGIN_S and self._work_once():
            pass

    @tolerated(lambda _: NameUpdates())
    def updates(self) -> NameUpdates:
        """Return the better names that were found since the last call.

        Tries a limited number of pending cgroups and pods, for there may be no time between
        intervals. Waits a moment for what is being read.
        """
        for reader in self.readers:
            reader.deliver(self._wait_s)
        self._paths.learn(())
        self._pending.wake(self._clock())
        for entry in islice(iter(self._pending.take, None), MAX_RETRIES):
            entry.attempt()
        updates, self._updates = self._updates, NameUpdates()
        updates.processes.update(self._processes.take_better())
        return updates

    def take_ended_cgroups(self) -> tuple[int, ...]:
        """Return the ids of cgroups whose end was noticed since the last call."""
        return self._paths.take_ended()

    @property
    def stats(self) -> NamingStats:
        """Faults, reads that were given up, and paths for which there was no room."""
        given_up = sum(each.given_up for each in self.readers)
        return NamingStats(self.faults.count, given_up, self._paths.limit.count)

    def close(self) -> None:
        """Release what is held open; nothing is named after this."""
        self._paths.close()

    # --- the ledger

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """See ``Naming``. Never postponed: there are few, and their energy depends on it."""
        return self._name_cgroup(cgroup_id, self._clock() + GIVE_UP_S)

    @tolerated(lambda *_: ProcessName())
    def process(self, identity: ProcessIdentity) -> ProcessName:
        """See ``Naming``. What there is no time to read is in later ``updates``."""
        return self._processes.name(identity)

    @tolerated(lambda _, pod_id: PodLabels(pod_id, "", ""))
    def pod(self, pod_id: str) -> PodLabels:
        """See ``Naming``. The pod of another id, where a static pod was given that at the API."""
        pod = self._index.pod(pod_id)
        if pod is None:
            return PodLabels(pod_id, "", "")
        if pod.pod_id != pod.cgroup_pod_id:
            self._watch_static_pod(pod.pod_id)
        return PodLabels(pod.pod_id, pod.pod_name, pod.pod_namespace)

    # --- attempts

    def _work_once(self) -> bool:
        """Find one name: first those whose files may go, of processes the newest first."""
        if self._made:
            self._prefetch(self._made.popleft())
        elif entry := self._pending.take():
            entry.attempt()
        elif self._processes.has_unread:
            self._processes.read_next()
        elif self._paths.has_checks:
            self._paths.check()
        else:
            return False
        return True

    def _has_ended(self, key: Hashable) -> bool:
        return isinstance(key, int) and (
            self._paths.is_ended(key) or not self._paths.remembers(key)
        )

    def _prefetch(self, cgroup_id: int) -> None:
        """Read a new container's name, which its runtime may have dropped when it is needed."""
        path = self._paths.path(cgroup_id)
        container = match_container(path) if path else None
        if container is not None:
            self._containers.prefetch(container)

    @tolerated(lambda self, id_, until_s: self._retry_later(id_, CgroupName(""), until_s))
    def _name_cgroup(self, cgroup_id: int, give_up_at_s: float) -> CgroupName:
        path = self._paths.lookup(cgroup_id)
        if path is None:
            return self._retry_later(cgroup_id, CgroupName(""), give_up_at_s)
        name = resolve(path, self._levels)
        is_overhead = name.container is not None and is_kata_overhead(path)
        sandbox = self._paths.find_sandbox(name.container_id) if is_overhead else None
        if sandbox:
            name = replace(resolve(sandbox), path=path, groups=name.groups)
        unknown = None
        if self._kubelet_root is not None:
            name, unknown = self._kubelet_root.resolve(name, sandbox or path)
        container = name.container
        if container and not container.container_name:
            rename = partial(self._retry_cgroup, cgroup_id, name, give_up_at_s)
            container_name = self._containers.name(container, cgroup_id, rename)
            name = replace(name, container=replace(container, container_name=container_name))
        if container is None and not name.pod_id and resembles_container(path):
            self._strange.report(path)
        if is_overhead and not sandbox:
            return self._retry_later(cgroup_id, name, give_up_at_s)
        if unknown:
            self._await_index(cgroup_id, name, unknown)
        return name

    def _retry_later(self, cgroup_id: int, name: CgroupName, give_up_at_s: float) -> CgroupName:
        """Try a cgroup again after a while: it was given *name* until now."""
        retry = partial(self._retry_cgroup, cgroup_id, name, give_up_at_s)
        self._pending.add(
            cgroup_id, PendingName(retry, self._clock() + RETRY_S, give_up_at_s=give_up_at_s)
        )
        return name

    def _await_index(self, cgroup_id: int, name: CgroupName, unknown: Unknown) -> None:
        """Try a cgroup again when the index knows more of it.

        Its pod is waited for as long as it is listed, its container alone for a while: it may be
        the pod's sandbox, or of no pod.
        """
        container_id, pod_id = unknown
        entry = PendingName(
            partial(self._retry_cgroup, cgroup_id, name, 0.0, pod_id),
            patience_s=math.inf if pod_id else UNKNOWN_RETENTION_S,
            is_known=lambda index: index.knows(container_id, pod_id),
        )
        self._pending.add(cgroup_id, entry)

    def _retry_cgroup(
        self, cgroup_id: int, given: CgroupName, give_up_at_s: float, pod_id: str = ""
    ) -> None:
        """Name a cgroup better than *given*, and the pod that was known as *pod_id*."""
        if given.path and not self._paths.remembers(cgroup_id):
            return
        name = self._name_cgroup(cgroup_id, give_up_at_s)
        if name.path and name != given:
            self._updates.cgroups[cgroup_id] = name
        if pod_id:
            self._update_pod(pod_id)

    def _watch_static_pod(self, pod_id: str) -> None:
        """Wait until another object stands for the pod at the API, under another id."""
        update, is_replaced = partial(self._update_pod, pod_id), partial(_is_replaced, pod_id)
        self._pending.add(("pod", pod_id), PendingName(update, is_known=is_replaced))

    def _update_pod(self, pod_id: str) -> None:
        labels = self.pod(pod_id)
        if labels.pod_name:
            self._updates.pods[pod_id] = labels


def _is_replaced(pod_id: str, index: PodIndex) -> bool:
    """Whether the pod is known under another id by now, or not at all."""
    pod = index.pod(pod_id)
    return pod is None or pod.pod_id != pod_id
