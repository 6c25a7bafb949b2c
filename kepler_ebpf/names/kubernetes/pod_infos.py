"""The pods in every Snapshot and the state of their source, made anew only after a change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.kubernetes.index import PodIndex
from kepler_ebpf.names.resolver import PodDirectory


class PodSource(PodDirectory, Protocol):
    """``source.PodSource``, which is not imported for its type: that is heavy."""

    @property
    def status(self) -> PodSourceHealth:
        """The state of the source."""


class PodInfos:
    """Reads a pod source for the snapshots; None where Kubernetes is off. Never waits."""

    def __init__(self, source: PodSource | None) -> None:
        self._source = source
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
            infos = tuple(pod for pod in index.pods() if self._is_shown(pod, index))
            if infos != self._infos:
                self._infos = infos
        return self._infos

    def health(self) -> PodSourceHealth | None:
        """Return the state of the source now."""
        return self._source.status if self._source else None

    def _is_shown(self, pod: PodInfo, index: PodIndex) -> bool:
        """Whether a pod is listed, or no other stands for its cgroups by now."""
        now = index.pod(pod.pod_id)
        return pod.pod_id in self._listed or now is None or now.pod_id == pod.pod_id
