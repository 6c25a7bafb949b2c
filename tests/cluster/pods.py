"""Pods to put on the cluster, all of one image and in the host's network."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster import Cluster, Json
from control_plane import NODE
from worker_node import IMAGE

BUSY = "while :; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; sleep 0.1; done"
"""A few per cent of a CPU, for ever."""

BRIEF = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
"""A hundredth of a second or a few, and the end."""


def container(name: str, script: str = BUSY, **more: object) -> Json:
    """Return a container that runs *script*."""
    command = ["/bin/sh", "-c", script]
    never = {"image": IMAGE, "imagePullPolicy": "Never"}
    return {"name": name, "command": command, **never, **more}


def spec(*containers: Json, **more: object) -> Json:
    """Return a pod's specification; with one busy container "main" unless others are given."""
    return {
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": list(containers) or [container("main")],
        **more,
    }


def pod(name: str, *containers: Json, labels: dict[str, str] | None = None, **more: object) -> Json:
    """Return a pod that is on the node without a scheduler's help."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": spec(*containers, nodeName=NODE, **more),
    }


def templated(kind: str, version: str, name: str, of_pods: Json, **more: object) -> Json:
    """Return an object whose controller makes pods, a Deployment or a Job."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": of_pods}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": labels}}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **selector, **more},
    }


@contextmanager
def on(cluster: Cluster, *objects: Json) -> Iterator[list[Json]]:
    """Create *objects* for the length of a with block, and give them as the API has them."""
    try:
        yield [cluster.put(each) for each in copy.deepcopy(objects)]
    finally:
        for each in objects:
            cluster.delete(each["kind"], each["metadata"]["name"])


def is_running(found: Json) -> bool:
    """Tell whether every container of a pod runs."""
    statuses = found["status"].get("containerStatuses") or []
    wanted = len(found["spec"]["containers"])
    return sum("running" in (each["state"] or {}) for each in statuses) == wanted


def has_ended(found: Json) -> bool:
    """Tell whether the pod came to its end."""
    return found["status"]["phase"] in {"Succeeded", "Failed"}


def ids(found: Json, field: str = "containerStatuses") -> dict[str, str]:
    """Return the runtime's ids of a pod's containers by their names."""
    statuses: list[dict[str, Any]] = found["status"].get(field) or []
    return {each["name"]: each.get("containerID", "").partition("://")[2] for each in statuses}
