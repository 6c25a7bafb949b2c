"""Pods as Kubernetes describes them, and the state of the source that they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kepler_ebpf.model.bounds import Labels


@dataclass(frozen=True, slots=True)
class PodInfo(Labels):
    """A pod as Kubernetes describes it, "" for what is missing.

    ``pod_id`` is the API's uid, ``cgroup_pod_id`` the one in the kubelet's cgroup paths: they
    differ for the API's mirror of a static pod. ``owner_kind`` and ``owner_name`` are its
    controller's, a Deployment rather than its ReplicaSet and a CronJob rather than its Job.
    ``labels`` are the allowed labels of the pod, (name, value) in name order. ``created`` is an
    RFC 3339 time in UTC, so newer sorts later.
    ``containers`` are (id, name) of each: the runtime's id, the name in the specification.
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
    created: str = ""
    containers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PodSourceHealth:
    """The source of pods: ``errors`` are counted since start, by reason.

    ``up``: it runs and its last request was answered. ``last_sync_s``: Unix time of the server's
    last answer, None before the first.
    """

    up: bool
    last_sync_s: float | None
    errors: Mapping[str, int]


def exported_label(name: str) -> str:
    """Return the name under which a pod's label is exported: Prometheus allows fewer characters."""
    return f"label_{re.sub('[^a-zA-Z0-9_]', '_', name)}"
