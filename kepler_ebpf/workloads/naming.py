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

from kepler_ebpf.model import ContainerLabels, PodLabels
from kepler_ebpf.naming import CgroupName, ProcessName
from kepler_ebpf.workloads.cgroups import UNKNOWN_RETRY_S, CgroupPaths
from kepler_ebpf.workloads.containers import match_container, match_pod
from kepler_ebpf.workloads.machines import Machines
from kepler_ebpf.workloads.pods import Pod, PodContainer, PodIndex
from kepler_ebpf.workloads.procfs import read_process
from kepler_ebpf.workloads.runtimes import container_name
from kepler_ebpf.workloads.units import match_unit
from kepler_ebpf.workloads.waiting import Waiting

WAITING_LIMIT = 4096
"""So many cgroups and so many pods may wait for a name; beyond it the oldest stays without."""

RENEWALS = 64
"""So many of the waiting are looked at in one call, which keeps an interval short."""

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
class Places:
    """Where names are read: the procfs mount, and the host's file system as seen from here."""

    procfs: str = "/proc"
    host_root: str = "/"


@dataclass(frozen=True, slots=True)
class Renewed:
    """Better names than the ones given before: of cgroups by their id, of pods by theirs.

    A pod's own labels may hold another id than the one it was known by: see ``WorkloadNaming``.
    """

    cgroups: dict[int, CgroupName]
    pods: dict[str, PodLabels]


class WorkloadNaming:
    """Implements ``kepler_ebpf.naming.Naming``. For the sampling thread alone.

    A pod's id is the API's uid as soon as that is known, until then the one in the cgroup path;
    they differ for static pods only.
    """

    def __init__(
        self,
        paths: CgroupPaths,
        places: Places | None = None,
        pods: PodDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        units: bool = False,
    ) -> None:
        """Name cgroups by *paths*; without *pods* a pod is known by its uid only.

        Whether they belong to systemd units and Slurm steps is told only with *units*.
        """
        self._paths = paths
        self._places = places or Places()
        self._pods = pods
        self._clock = clock
        self._units = units
        self._machines = Machines(self._places.procfs)
        self._pathless = Waiting[int, float](WAITING_LIMIT)
        self._podless = Waiting[int, CgroupName](WAITING_LIMIT)
        self._nameless = Waiting[str, PodLabels](WAITING_LIMIT)
        self._retried_at = clock()
        self._seen_version = 0

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
        labels = self._pod_labels(pod_id)
        if self._pods is not None and not labels.pod_name:
            self._nameless.add(pod_id, labels)
        return labels

    def renewed(self) -> Renewed:
        """Return what can be named better than when it was asked; call it once an interval.

        Looks at a limited number of the waiting, and at none when nothing is new.
        """
        self._wake()
        paths, (containers, moved) = self._found_paths(), self._found_containers()
        return Renewed(paths | containers, self._found_pods() | moved)

    def _pod_labels(self, pod_id: str) -> PodLabels:
        pod = self._pods.index.pod(pod_id) if self._pods else None
        return PodLabels(pod.uid, pod.name, pod.namespace) if pod else PodLabels(pod_id, "", "")

    def _completed(self, cgroup_id: int, name: CgroupName) -> CgroupName:
        """Add what the pods and the runtime know; the cgroup waits when that is not all yet."""
        found, pod = self._pod_of(name)
        if pod is not None:
            name = _in_pod(name, pod.uid, found.name if found else "")
        if name.container and not name.container.container_name:
            name = replace(name, container=self._named_by_runtime(name.container))
        is_part_unknown = found is None if name.container else pod is None and name.pod_id
        if self._pods is not None and is_part_unknown:
            self._podless.add(cgroup_id, name)
        return name

    def _pod_of(self, name: CgroupName) -> tuple[PodContainer | None, Pod | None]:
        if self._pods is None:
            return None, None
        found = self._pods.find(name.container_id) if name.container else None
        return found, found.pod if found else self._pods.index.pod(name.pod_id)

    def _named_by_runtime(self, labels: ContainerLabels) -> ContainerLabels:
        name = container_name(labels.container_id, labels.runtime, self._places.host_root)
        return replace(labels, container_name=name)

    def _wake(self) -> None:
        """Let those be looked at again for whom something may have changed."""
        now = self._clock()
        if now - self._retried_at >= UNKNOWN_RETRY_S:
            self._retried_at = now
            self._pathless.wake()
        version = self._pods.index.version if self._pods else self._seen_version
        if version != self._seen_version:
            self._seen_version = version
            self._podless.wake()
            self._nameless.wake()

    def _found_paths(self) -> dict[int, CgroupName]:
        found = {}
        for cgroup_id, since in self._pathless.take(RENEWALS):
            if self._paths.lookup(cgroup_id) is not None:
                found[cgroup_id] = self.cgroup(cgroup_id)
            elif self._clock() - since < GIVE_UP_S:
                self._pathless.add(cgroup_id, since)
        return found

    def _found_containers(self) -> tuple[dict[int, CgroupName], dict[str, PodLabels]]:
        """Look at the waiting; the second is what the pods whose id was another are called."""
        waited = self._podless.take(RENEWALS)
        asked = [(cgroup_id, old, self._completed(cgroup_id, old)) for cgroup_id, old in waited]
        left = {old.pod_id for _, old, new in asked if old.pod_id not in ("", new.pod_id)}
        named = {pod_id: self._pod_labels(pod_id) for pod_id in left}
        return (
            {cgroup_id: new for cgroup_id, old, new in asked if new != old},
            {pod_id: labels for pod_id, labels in named.items() if labels.pod_name},
        )

    def _found_pods(self) -> dict[str, PodLabels]:
        asked = {pod_id: self.pod(pod_id) for pod_id, _ in self._nameless.take(RENEWALS)}
        return {pod_id: labels for pod_id, labels in asked.items() if labels.pod_name}


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
