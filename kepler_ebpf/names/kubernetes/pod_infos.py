"""What every Snapshot tells of Kubernetes, made anew only where something has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.kubernetes.index import Pod, PodIndex
from kepler_ebpf.names.resolver import PodDirectory


class SourceStatus(Protocol):
    """The part of ``pod_sources.SourceStatus`` that is shown."""

    @property
    def connected(self) -> bool:
        """Whether the last thing tried worked."""

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""

    @property
    def last_sync_s(self) -> float | None:
        """The Unix time of the last word from the server, None before the first."""

    @property
    def errors(self) -> Mapping[str, int]:
        """How often something failed, by reason."""


class PodSource(PodDirectory, Protocol):
    """``pod_sources.PodSource``, which is not imported for its type: that is heavy."""

    @property
    def status(self) -> SourceStatus:
        """How the source is doing."""


class PodInfos:
    """Reads a pod source for the snapshots; None where Kubernetes is off. Never waits."""

    def __init__(self, source: PodSource | None) -> None:
        self._source = source
        self._made: dict[str, tuple[Pod, PodInfo]] = {}
        self._infos: tuple[PodInfo, ...] = ()
        self._listed: frozenset[str] = frozenset()
        self._labels: Iterable[PodLabels | None] = ()
        self._seen = (0, 0, self._listed)

    def infos(self, listed: Iterable[PodLabels | None]) -> tuple[PodInfo, ...]:
        """Return every pod known; the same object until that changes.

        The pods that are *listed*, with their energy, stay known for as long as they are.
        """
        if self._source is None:
            return ()
        index = self._source.index
        if listed is not self._labels:
            self._labels = listed
            self._listed = frozenset(labels.pod_id for labels in listed if labels)
            index.keep(self._listed)
        seen = (index.version, index.known_pods, self._listed)
        if seen != self._seen:
            self._seen = seen
            self._describe(index)
        return self._infos

    def health(self) -> PodSourceHealth | None:
        """Return how the source fares now."""
        if self._source is None:
            return None
        status = self._source.status
        return PodSourceHealth(
            up=status.running and status.connected,
            last_sync_s=status.last_sync_s,
            errors=status.errors,
        )

    def _describe(self, index: PodIndex) -> None:
        shown = [pod for pod in index.pods() if self._is_shown(pod, index)]
        self._made = {pod.uid: (pod, self._info(pod)) for pod in shown}
        infos = tuple(info for _, info in self._made.values())
        if infos != self._infos:
            self._infos = infos

    def _is_shown(self, pod: Pod, index: PodIndex) -> bool:
        """Tell whether a pod is listed, or no other stands for its cgroups by now."""
        now = index.pod(pod.uid)
        return pod.uid in self._listed or now is None or now.uid == pod.uid

    def _info(self, pod: Pod) -> PodInfo:
        """Describe a pod; one that has not changed is not described anew."""
        known = self._made.get(pod.uid)
        return known[1] if known and known[0] is pod else _info(pod)


def _info(pod: Pod) -> PodInfo:
    return PodInfo(
        pod_id=pod.uid,
        pod_name=pod.name,
        pod_namespace=pod.namespace,
        cgroup_pod_id=pod.cgroup_uid,
        node=pod.node,
        owner_kind=pod.owner_kind,
        owner_name=pod.owner_name,
        qos_class=pod.qos,
        labels=pod.labels,
    )
