"""From the path of a cgroup to container, pod and others, by the path and the index of pods.

Who may make cgroups chooses their names. With Kubernetes a pod is one only where the kubelet has
its pods, so that a path elsewhere that names a pod or its container is in none.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.names.cgroups.containers import (
    PodPlace,
    has_short_id,
    is_in_user_slice,
    match_container,
    match_pod,
    outside_of_containers,
    owner_of,
    pod_places,
)
from kepler_ebpf.names.cgroups.kinds import match_kinds
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.kubernetes.index import NamedContainer, PodIndex

LOG = logging.getLogger(__name__)

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
    groups = match_kinds(path, levels)
    return CgroupName(path, match_container(path), match_pod(path), groups, owner_of(path))


class KubeletRoot:
    """The cgroup below which the kubelet makes pods: "" for the root cgroup, None until learned.

    It is learned from the first path in which the index confirms both pod and container, where the
    cgroup above them is root's and in no user's slice. A cgroup further up, confirmed later, takes
    its place. Until it is known the outermost pod of a path is believed, in a user's slice none.
    """

    def __init__(self, pods: PodDirectory, paths: CgroupPaths) -> None:
        """Learn from the paths that are named and, when the index changes, from all of *paths*."""
        self.path: str | None = None
        self._pods = pods
        self._paths = paths
        self._seen_version = 0

    def resolve(self, name: CgroupName, path: str) -> tuple[CgroupName, Unknown | None]:
        """Return *name* with the pod that *path* is in, and what the index does not have of it."""
        self._learn(path)
        places = pod_places(path)
        if self.path is None:
            is_outside = is_in_user_slice(path)
        else:
            places = [place for place in places if place.root == self.path]
            is_outside = not places
        if is_outside:
            return _outside_of_pods(name, is_taken=self._is_taken(name.container_id)), None
        return _in_pod(name, places[0] if places else None, self._pods)

    def _is_taken(self, container_id: str) -> bool:
        """Whether a container of a pod has that id. One with an id of another before it has not."""
        if not has_short_id(container_id):
            return False
        return self._pods.index.find(container_id) is not None or any(
            place.root == self.path and _id_in(place.rest) == container_id
            for path in self._paths.with_container(container_id)
            for place in pod_places(path)
        )

    def _learn(self, path: str) -> None:
        version = self._pods.index.version
        if self.path is None and version != self._seen_version:
            self._seen_version = version
            for known in list(self._paths.containing("kubepods")):
                self._learn_from(known)
        self._learn_from(path)

    def _learn_from(self, path: str) -> None:
        for place in pod_places(path):
            if place.root == self.path or place.user_slice:
                return
            container_id = _id_in(place.rest).partition("/")[0]
            _, pod = self._pods.index.find(container_id) or ("", None)
            expected = self._pods.index.pod(place.uid)
            if pod and expected and pod.pod_id == expected.pod_id:
                is_above = self.path is None or self.path.startswith(f"{place.root}/")
                if is_above and self._paths.is_roots(place.root):
                    self.path = place.root
                    LOG.info("the kubelet has its pods below the cgroup %s", self.path or "/")
                return


def _in_pod(
    name: CgroupName, place: PodPlace | None, pods: PodDirectory
) -> tuple[CgroupName, Unknown | None]:
    """Return *name* with its pod from the index, and what the index does not have of it.

    *place* is where the path has the pod, None for a path that has none. What is in a pod by its
    path is in no other. A pod's id is the API's uid as soon as that is known, until then the one in
    the cgroup path; they differ for static pods only.
    """
    if place:
        name = replace(name, container=match_container(place.rest, place.uid), pod_id=place.uid)
    outer_id, _, inner_id = name.container_id.partition("/")
    container_name, pod = (outer_id and pods.find(outer_id)) or ("", None)
    by_path = pods.index.pod(name.pod_id)
    is_complete = pod is not None or (not outer_id and (by_path is not None or not name.pod_id))
    if pod and by_path and by_path.pod_id != pod.pod_id:
        container_name, pod = "", by_path
    pod = (pods.index.pod(pod.pod_id) or pod) if pod else by_path
    unknown = None if is_complete else (outer_id, "" if pod else name.pod_id)
    if pod is None:
        return name, unknown
    container = name.container and replace(
        name.container, container_name="" if inner_id else container_name, pod_id=pod.pod_id
    )
    return replace(name, container=container, pod_id=pod.pod_id), unknown


def _outside_of_pods(name: CgroupName, *, is_taken: bool) -> CgroupName:
    """Return *name* for a path that is not where the kubelet has its pods: in no pod.

    Where the id *is_taken* by a pod's container, this is not that one: its cgroup is before it.
    """
    container = name.container and replace(name.container, pod_id="")
    if container and is_taken:
        above = outside_of_containers(name.path).strip("/")
        container = replace(container, container_id=f"{above}/{container.container_id}")
    return replace(name, container=container, pod_id="")


def _id_in(rest: str) -> str:
    container = match_container(rest, "")
    return container.container_id if container else ""
