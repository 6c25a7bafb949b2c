"""Answers the ledger's questions: what a cgroup, a process and a pod are called.

Ties cgroup paths, container patterns, the runtimes' files, /proc and the pod index together. What
cannot be told at once (an id whose path is not found yet, a container or pod that the API has not
told us of) is remembered, and comes out of ``renewed`` when it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels
from kepler_ebpf.names.cgroups.containers import match_container, match_pod
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.cgroups.units import match_unit
from kepler_ebpf.names.kubernetes.index import Pod, PodContainer, PodIndex
from kepler_ebpf.names.processes.procfs import read_process
from kepler_ebpf.names.processes.vm_ids import VmIds
from kepler_ebpf.names.retry_queue import Waiting
from kepler_ebpf.names.runtimes import RuntimeNames
from kepler_ebpf.names.unresolved import UnresolvedCgroup, UnresolvedCgroups

UNKNOWN_RETRY_S = 1.0

WAITING_LIMIT = 4096
"""So many cgroups without a path may wait, and so many that the API has not told of; beyond it the
oldest stays without, of the latter only one that is gone.
"""

RENEWALS = 64
"""So many of the waiting are renewed in one call, which keeps an interval short."""

GIVE_UP_S = 10.0
"""A cgroup whose path is not found in this time is gone."""


class PodDirectory(Protocol):
    """The part of ``pod_sources.PodSource`` that names need. Never waits."""

    @property
    def index(self) -> PodIndex:
        """What is known of the node's pods now."""

    def find(self, container_id: str) -> PodContainer | None:
        """Look a container up by its full id."""


@dataclass(frozen=True, slots=True)
class HostPaths:
    """Where names are read: the procfs mount, and the host's file system as seen from here."""

    procfs: str = "/proc"
    host_root: str = "/"


@dataclass(frozen=True, slots=True)
class Renewed:
    """Better names than the ones given before: of cgroups by their id, of pods by theirs.

    A pod's own labels may hold another id than the one it was known by: see ``NameResolver``.
    """

    cgroups: dict[int, CgroupName]
    pods: dict[str, PodLabels]


class NameResolver:
    """Implements ``kepler_ebpf.naming.Naming``. For the sampling thread alone.

    A pod's id is the API's uid as soon as that is known, until then the one in the cgroup path;
    they differ for static pods only.
    """

    def __init__(
        self,
        paths: CgroupPaths,
        places: HostPaths | None = None,
        pods: PodDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        units: bool = False,
    ) -> None:
        """Name cgroups by *paths*; without *pods* a pod is known by its uid only.

        Whether they belong to systemd units and Slurm steps is told only with *units*.
        """
        self._paths = paths
        self._places = places or HostPaths()
        self._pods = pods
        self._clock = clock
        self._units = units
        self._machines = VmIds(self._places.procfs)
        self._runtimes = RuntimeNames(self._places.host_root)
        self._pathless = Waiting[int, float](WAITING_LIMIT)
        self._strangers = UnresolvedCgroups(paths, WAITING_LIMIT)
        self._static: set[str] = set()
        self._retried_at = clock()
        self._seen_version = 0

    def meet(self, cgroup_id: int) -> None:
        """Read a new container's name, which its runtime may have dropped when it is asked for."""
        path = self._paths.lookup(cgroup_id)
        match = match_container(path) if path else None
        if match is not None:
            self._runtimes.name(match.container_id, match.runtime)

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """See ``Naming``."""
        path = self._paths.lookup(cgroup_id)
        if path is None:
            self._pathless.add(cgroup_id, self._clock())
            return CgroupName("")
        name = _name_of(path)
        if self._units:
            name = replace(name, unit=match_unit(path))
        return self._completed(cgroup_id, name)

    def process(
        self,
        tgid: int,
        start_ns: int,
        comm: str,
        cgroup: CgroupName,  # noqa: ARG002 - part of the protocol
    ) -> ProcessName:
        """See ``Naming``. A kernel thread that works for a machine belongs to that machine."""
        info = read_process(tgid, start_ns, self._places.procfs)
        if info is None:
            return ProcessName()
        if info.is_kernel_thread:
            return ProcessName(vm=self._machines.of_helper(comm))
        return ProcessName(info.exe, self._machines.of_process(tgid, info))

    def pod(self, pod_id: str) -> PodLabels:
        """See ``Naming``."""
        pod = self._pods.index.pod(pod_id) if self._pods else None
        if pod is None:
            return PodLabels(pod_id, "", "")
        if pod.uid != pod.cgroup_uid:
            self._static.add(pod.uid)
        return PodLabels(pod.uid, pod.name, pod.namespace)

    def renewed(self) -> Renewed:
        """Return what can be named better than when it was asked; call it once an interval.

        Renews a limited number of the waiting.
        """
        self._wake()
        paths, (cgroups, pods) = self._found_paths(), self._told_of()
        return Renewed(paths | cgroups, pods | self._replaced())

    def _completed(self, cgroup_id: int, by_path: CgroupName) -> CgroupName:
        """Add what the pods and the runtime know; the cgroup waits when that is not all yet."""
        found, pod = self._pod_of(by_path)
        name = _in_pod(by_path, pod.uid, found.name if found else "") if pod else by_path
        if name.container and not name.container.container_name:
            name = replace(name, container=self._named_by_runtime(name.container))
        is_part_unknown = found is None if name.container else pod is None and name.pod_id
        if self._pods is not None and is_part_unknown:
            pod_id = "" if pod else by_path.pod_id
            self._strangers.add(
                cgroup_id, UnresolvedCgroup(by_path, name, name.container_id, pod_id)
            )
        return name

    def _pod_of(self, name: CgroupName) -> tuple[PodContainer | None, Pod | None]:
        if self._pods is None:
            return None, None
        found = self._pods.find(name.container_id) if name.container else None
        pod = self._pods.index.pod(found.pod.uid if found else name.pod_id)
        return found, pod or (found.pod if found else None)

    def _named_by_runtime(self, labels: ContainerLabels) -> ContainerLabels:
        name = self._runtimes.name(labels.container_id, labels.runtime)
        return replace(labels, container_name=name)

    def _wake(self) -> None:
        """Let those be looked at again for whom something may have changed."""
        now = self._clock()
        if now - self._retried_at >= UNKNOWN_RETRY_S:
            self._retried_at = now
            self._pathless.wake()
        self._strangers.make_room()
        version = self._pods.index.version if self._pods else self._seen_version
        if self._pods and version != self._seen_version:
            self._seen_version = version
            self._strangers.look(self._pods.index, now)

    def _found_paths(self) -> dict[int, CgroupName]:
        found = {}
        for cgroup_id, since in self._pathless.take(RENEWALS):
            if self._paths.lookup(cgroup_id) is not None:
                found[cgroup_id] = self.cgroup(cgroup_id)
            elif self._clock() - since < GIVE_UP_S:
                self._pathless.add(cgroup_id, since)
        return found

    def _told_of(self) -> tuple[dict[int, CgroupName], dict[str, PodLabels]]:
        """Name those that the API has told of, and their pods by the id these had until now."""
        cgroups, pods = {}, {}
        for cgroup_id, stranger in self._strangers.take(RENEWALS):
            name = self._completed(cgroup_id, stranger.by_path)
            if name != stranger.told:
                cgroups[cgroup_id] = name
            if stranger.pod_id:
                pods[stranger.pod_id] = self.pod(stranger.pod_id)
        return cgroups, {pod_id: labels for pod_id, labels in pods.items() if labels.pod_name}

    def _replaced(self) -> dict[str, PodLabels]:
        """Return, by the old id, the static pods whose id at the API has become another."""
        index = self._pods.index if self._pods else None
        now = {uid: index.pod(uid) for uid in self._static} if index else {}
        self._static = {uid for uid, pod in now.items() if pod and pod.uid == uid}
        return {uid: self.pod(uid) for uid, pod in now.items() if pod and pod.uid != uid}


def _name_of(path: str) -> CgroupName:
    """Return what the path alone tells; the container's name is still to be found."""
    match = match_container(path)
    if match is None:
        return CgroupName(path, None, match_pod(path))
    labels = ContainerLabels(match.container_id, "", match.runtime, match.pod_uid)
    return CgroupName(path, labels, match.pod_uid)


def _in_pod(name: CgroupName, pod_id: str, container_name: str) -> CgroupName:
    """Return *name* in that pod, its container under that name unless it is ""."""
    if name.container is None:
        return replace(name, pod_id=pod_id)
    container_name = container_name or name.container.container_name
    labels = replace(name.container, container_name=container_name, pod_id=pod_id)
    return replace(name, container=labels, pod_id=pod_id)
