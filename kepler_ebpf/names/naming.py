"""The names of this host's workloads: the interface of this package for the loop and the ledger.

An interval never waits for more files than it can afford. What there was no time for, and what is
not known yet, is pending: it is found between intervals, or when the index of pods changes.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from kepler_ebpf.model.names import CgroupName, ExecEvent, Naming, ProcessIdentity, ProcessName
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.cgroups.containers import (
    is_kata_overhead,
    match_container,
    resembles_container,
)
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.paths import CgroupPaths, PathEvent
from kepler_ebpf.names.kubernetes.index import UNKNOWN_RETENTION_S, PodIndex
from kepler_ebpf.names.pending import MAX_PENDING, ON_CHANGE, PendingName, PendingNames, Priority
from kepler_ebpf.names.processes.process_names import ProcessNames
from kepler_ebpf.names.resolver import (
    PodDirectory,
    Unknown,
    resolve,
    resolve_container,
    resolve_pod,
)
from kepler_ebpf.names.runtimes import RuntimeNames

LOG = logging.getLogger(__name__)

MARGIN_S = 0.002
"""Work between intervals stops so long before the next."""

MAX_RETRIES = 64
"""Pending cgroups and pods that are tried again inside one batch."""

RETRY_S = 1.0
GIVE_UP_S = 10.0
"""A cgroup without a path is tried again for so long; then it is gone."""

MAX_REPORTED = 32
"""Paths that are logged because they resemble a container's and are not understood."""

_DIGITS = re.compile(r"[0-9a-f]{2,}|[0-9]")
"""What differs between paths of one kind."""


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

    cgroups: dict[int, CgroupName] = field(default_factory=dict)
    pods: dict[str, PodLabels] = field(default_factory=dict)
    processes: dict[tuple[int, int], ProcessName] = field(default_factory=dict)


class HostNaming(Naming):
    """Names cgroups, pods and processes of this host. For the sampling thread alone."""

    def __init__(
        self,
        hierarchy: CgroupHierarchy,
        options: NamingOptions | None = None,
        pods: PodDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the cgroups of *hierarchy*; without *pods* a pod is known by its uid only."""
        options = options or NamingOptions()
        self._clock = clock
        self._units = options.units
        self._pods = pods
        self._index = pods.index if pods else None
        self._paths = CgroupPaths(hierarchy, options.retention_s, clock)
        self._runtimes = RuntimeNames(options.host_root)
        self._processes = ProcessNames(options.procfs)
        self._pending = PendingNames(self._has_ended, self._index, MAX_PENDING)
        self._updates = NameUpdates()
        self._budget_s = 0.0
        self._reported: set[str] = set()

    # --- the loop

    def begin_batch(self, budget_s: float) -> None:
        """Let the names of the next batch take *budget_s* seconds of reading."""
        self._budget_s = budget_s
        self._processes.begin_batch()

    def learn_cgroups(self, events: Iterable[PathEvent]) -> None:
        """Take in cgroups that were made or removed."""
        events = tuple(events)
        self._paths.learn(events)
        for event in events:
            if not event.removed:
                prefetch = partial(self._prefetch, event.cgroup_id)
                key = ("prefetch", event.cgroup_id)
                self._pending.add(PendingName(key, prefetch, Priority.PREFETCH))

    def learn_execs(self, events: Iterable[ExecEvent]) -> None:
        """Take in execs. Each names its process in this batch and the next."""
        self._processes.learn(events)

    def resync(self) -> None:
        """Have ``work`` look for cgroups that have ended: the kernel has lost events."""
        self._paths.resync()

    @property
    def has_work(self) -> bool:
        """Whether ``work`` has anything to do. Cheap."""
        return self._paths.has_checks or self._pending.has_due(self._clock())

    def work(self, remaining_s: Callable[[], float]) -> None:
        """Find pending names while *remaining_s* allows."""
        self._pending.wake(self._clock())
        while remaining_s() > MARGIN_S and (entry := self._pending.take()):
            entry.attempt()
        while remaining_s() > MARGIN_S and self._paths.has_checks:
            self._paths.check()

    def updates(self) -> NameUpdates:
        """Return the better names that were found since the last call.

        Tries a limited number of pending cgroups and pods, for there may be no time between
        intervals.
        """
        self._paths.learn(())
        self._pending.wake(self._clock())
        for _ in range(MAX_RETRIES):
            entry = self._pending.take(Priority.LIVE, Priority.ENDED)
            if entry is None:
                break
            entry.attempt()
        updates, self._updates = self._updates, NameUpdates()
        return updates

    def take_ended_cgroups(self) -> tuple[int, ...]:
        """Return the ids of cgroups whose end was noticed since the last call."""
        return self._paths.take_ended()

    def close(self) -> None:
        """Release what is held open; nothing is named after this."""
        self._paths.close()

    # --- the ledger

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """See ``Naming``. Never postponed: there are few, and their energy depends on it."""
        return self._name_cgroup(cgroup_id, self._clock() + GIVE_UP_S)

    def process(self, identity: ProcessIdentity) -> ProcessName:
        """See ``Naming``. What there is no time to read is in later ``updates``."""
        key = identity.tgid, identity.start_ns
        # A name found before this question may be that of another program.
        self._updates.processes.pop(key, None)
        self._pending.discard(key)
        name, is_all = self._processes.by_event(identity)
        if is_all:
            return name
        if self._budget_s > 0.0:
            began_s = self._clock()
            name = self._processes.read(identity, name.exe)
            self._budget_s -= self._clock() - began_s
        else:
            read = partial(self._read_process, identity, name)
            self._pending.add(PendingName(key, read, Priority.PROCESS))
        return name

    def pod(self, pod_id: str) -> PodLabels:
        """See ``Naming``. The pod of another id, where a static pod was given that at the API."""
        pod = self._index.pod(pod_id) if self._index else None
        if pod is None:
            return PodLabels(pod_id, "", "")
        if pod.pod_id != pod.cgroup_pod_id:
            self._watch_static_pod(pod.pod_id)
        return PodLabels(pod.pod_id, pod.pod_name, pod.pod_namespace)

    # --- attempts

    def _has_ended(self, key: Hashable) -> bool:
        return isinstance(key, int) and (
            self._paths.is_ended(key) or not self._paths.remembers(key)
        )

    def _prefetch(self, cgroup_id: int) -> None:
        """Read a new container's name, which its runtime may have dropped when it is needed."""
        path = self._paths.lookup(cgroup_id)
        match = match_container(path) if path else None
        if match is not None:
            self._runtimes.prefetch(match.container_id, match.runtime)

    def _read_process(self, identity: ProcessIdentity, given: ProcessName) -> None:
        name = self._processes.read(identity, given.exe)
        if name != given:
            self._updates.processes[identity.tgid, identity.start_ns] = name

    def _name_cgroup(self, cgroup_id: int, give_up_at_s: float) -> CgroupName:
        path = self._paths.lookup(cgroup_id)
        if path is None:
            return self._retry_later(cgroup_id, CgroupName(""), give_up_at_s)
        name = resolve(path, units=self._units)
        is_overhead = name.container is not None and is_kata_overhead(path)
        sandbox = self._paths.find_sandbox(name.container_id) if is_overhead else None
        if sandbox:
            name = replace(resolve(sandbox, units=False), path=path, unit=name.unit)
        unknown = None
        if self._pods is not None:
            name, unknown = resolve_pod(name, self._pods)
        name = resolve_container(name, self._runtimes.name)
        if name.container is None and not name.pod_id and resembles_container(path):
            self._report(path)
        if is_overhead and not sandbox:
            return self._retry_later(cgroup_id, name, give_up_at_s)
        if unknown:
            self._await_index(cgroup_id, name, unknown)
        return name

    def _retry_later(self, cgroup_id: int, name: CgroupName, give_up_at_s: float) -> CgroupName:
        """Try a cgroup again after a while: it was given *name* until now."""
        retry = partial(self._retry_cgroup, cgroup_id, name, give_up_at_s)
        at_s = self._clock() + RETRY_S
        self._pending.add(PendingName(cgroup_id, retry, Priority.LIVE, at_s, give_up_at_s))
        return name

    def _await_index(self, cgroup_id: int, name: CgroupName, unknown: Unknown) -> None:
        """Try a cgroup again when the index knows more of it.

        Its pod is waited for as long as it is listed, its container alone for a while: it may be
        the pod's sandbox, or of no pod.
        """
        container_id, pod_id = unknown
        retry = partial(self._retry_cgroup, cgroup_id, name, 0.0, pod_id)
        entry = PendingName(cgroup_id, retry, Priority.LIVE, ON_CHANGE)
        entry.patience_s = math.inf if pod_id else UNKNOWN_RETENTION_S
        entry.is_known = lambda index: index.knows(container_id, pod_id)
        self._pending.add(entry)

    def _retry_cgroup(
        self, cgroup_id: int, given: CgroupName, give_up_at_s: float, pod_id: str = ""
    ) -> None:
        """Name a cgroup better than *given*, and the pod that was known as *pod_id*."""
        if given.path and not self._paths.remembers(cgroup_id):
            return
        name = self._name_cgroup(cgroup_id, give_up_at_s)
        if name != given:
            self._updates.cgroups[cgroup_id] = name
        if pod_id:
            self._update_pod(pod_id)

    def _watch_static_pod(self, pod_id: str) -> None:
        """Wait until another object stands for the pod at the API, under another id."""
        key, update = ("pod", pod_id), partial(self._update_pod, pod_id)
        entry = PendingName(key, update, Priority.LIVE, ON_CHANGE)
        entry.is_known = partial(_is_replaced, pod_id)
        self._pending.add(entry)

    def _update_pod(self, pod_id: str) -> None:
        labels = self.pod(pod_id)
        if labels.pod_name:
            self._updates.pods[pod_id] = labels

    def _report(self, path: str) -> None:
        shape = _DIGITS.sub("#", path)
        if shape not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(shape)
            LOG.warning(
                "cgroup %s looks like a container's, but its path is not known: "
                "its energy is shown outside of containers",
                path,
            )


def _is_replaced(pod_id: str, index: PodIndex) -> bool:
    """Whether the pod is known under another id by now, or not at all."""
    pod = index.pod(pod_id)
    return pod is None or pod.pod_id != pod_id
