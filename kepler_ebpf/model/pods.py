"""What a Snapshot tells of Kubernetes: the node's pods, and how it fares to learn of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod as Kubernetes describes it, "" for what it does not say.

    ``cgroup_pod_id`` is its id in cgroup paths: a static pod's is another than at the API.
    ``owner_kind`` and ``owner_name`` are its controller's, a Deployment rather than its
    ReplicaSet. ``labels`` are the pod's labels that were asked for, (name, value) each.
    """

    pod_id: str
    pod_name: str
    pod_namespace: str
    cgroup_pod_id: str
    node: str
    owner_kind: str
    owner_name: str
    qos_class: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PodSourceHealth:
    """How the source of pods fares; ``errors`` are counted since start, by reason.

    ``up`` tells that it runs and that its last request was answered. ``last_sync_s`` is the Unix
    time of the last word from the server, None before the first.
    """

    up: bool
    last_sync_s: float | None
    errors: Mapping[str, int]


def exported_label(name: str) -> str:
    """Return the name under which a pod's label is exported: Prometheus knows fewer characters."""
    return f"label_{re.sub('[^a-zA-Z0-9_]', '_', name)}"
