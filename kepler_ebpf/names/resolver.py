"""From the path of a cgroup to container, pod and others: a pure function of path and indexes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.names.cgroups.containers import match_container, match_pod
from kepler_ebpf.names.cgroups.kinds import match_kinds
from kepler_ebpf.names.kubernetes.index import NamedContainer, PodIndex

Unknown = tuple[str, str]
"""The id of a container and the id of a pod that the index does not have, "" for neither."""


class PodDirectory(Protocol):
    """The part of ``kubernetes.source.PodSource`` that names need. Never waits."""

    @property
    def index(self) -> PodIndex:
        """What is known of the node's pods now."""

    def find(self, container_id: str) -> NamedContainer | None:
        """Look a container up by its full id."""


def resolve(path: str, levels: Collection[str] = ()) -> CgroupName:
    """Return what is in the path alone; of the kinds found by path those of *levels*."""
    return CgroupName(path, match_container(path), match_pod(path), match_kinds(path, levels))


def resolve_pod(name: CgroupName, pods: PodDirectory) -> tuple[CgroupName, Unknown | None]:
    """Return *name* with its pod from the index, and what the index does not have of it.

    A pod's id is the API's uid as soon as that is known, until then the one in the cgroup path;
    they differ for static pods only.
    """
    container_name, pod = (name.container and pods.find(name.container_id)) or ("", None)
    is_complete = pod is not None
    pod = pods.index.pod(pod.pod_id if pod else name.pod_id) or pod
    if name.container is None:
        is_complete = pod is not None or not name.pod_id
    unknown = None if is_complete else (name.container_id, "" if pod else name.pod_id)
    if pod is None:
        return name, unknown
    container = name.container and replace(
        name.container, container_name=container_name, pod_id=pod.pod_id
    )
    return replace(name, container=container, pod_id=pod.pod_id), unknown
