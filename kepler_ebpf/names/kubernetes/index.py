"""Which pod a container or a cgroup belongs to: plain data, no I/O.

One thread writes (a pod source), any thread reads. Readers take no lock: each read is one
dictionary look-up of immutable values, and ``PodIndex.version`` changes with anything that a
reader could see. A pod or container that ended stays known for a stated time, so that the
energy it used last can still be named, and a pod for as long as its energy is listed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from kepler_ebpf.model.pods import PodInfo

_log = logging.getLogger(__name__)

UNKNOWN_RETENTION_S = 300.0
"""A container id that is unknown is not looked for again for this long."""

MAX_PODS = 10_000
"""Pods that are known at a time and have not ended; a node runs some hundreds at most."""

NamedContainer = tuple[str, PodInfo]
"""A container's name in the specification of its pod, and that pod."""


class Expiring:
    """Keys, oldest first, each until its time is up or room is short."""

    def __init__(self, retention_s: float, limit: int) -> None:
        """Keep each key for *retention_s*, and never more than *limit* keys."""
        self._retention_s = retention_s
        self._limit = limit
        self._until_s: dict[str, float] = {}

    def __contains__(self, key: str) -> bool:
        """Whether *key* is still kept."""
        return key in self._until_s

    def add(self, key: str, now_s: float) -> None:
        """Keep *key* from *now_s* on; a key that is kept already stays as it is."""
        self._until_s.setdefault(key, now_s + self._retention_s)

    def discard(self, key: str) -> None:
        """Forget *key*."""
        self._until_s.pop(key, None)

    def pop_due(self, now_s: float) -> list[str]:
        """Remove and return the keys whose time is up, and the oldest beyond the limit."""
        surplus = len(self._until_s) - self._limit
        due: list[str] = []
        for key, until_s in self._until_s.items():
            if until_s > now_s and len(due) >= surplus:
                break
            due.append(key)
        for key in due:
            del self._until_s[key]
        return due


class PodIndex:
    """Container id and pod uid to pod, kept up to date by one writer and read by any thread."""

    def __init__(
        self,
        retention_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        max_ended: int = 10_000,
    ) -> None:
        """Start empty; what ends stays known for *retention_s*, at most *max_ended* of a kind."""
        self._clock = clock
        self._version = 0
        self._live: dict[str, PodInfo] = {}
        self._containers: dict[str, NamedContainer] = {}
        self._pods: dict[str, PodInfo] = {}
        self._aliases: dict[str, PodInfo] = {}
        self._ended_pods = Expiring(retention_s, max_ended)
        self._ended_containers = Expiring(retention_s, max_ended)
        self._contested: set[str] = set()
        self._kept: frozenset[str] = frozenset()

    # --- readers, any thread ---

    @property
    def version(self) -> int:
        """A number that grows whenever there is something new to learn here.

        Read it before looking anything up. Forgetting does not count: a name once learned holds.
        """
        return self._version

    def find(self, container_id: str) -> NamedContainer | None:
        """Return name and pod of the container with this full id, running or recently ended."""
        return self._containers.get(container_id)

    def pod(self, uid: str) -> PodInfo | None:
        """Return the pod with this uid, the API's or the one in a cgroup path.

        For a static pod's mirror that was replaced, the one that is there now. What is the uid of
        a pod at the API is never another pod's.
        """
        pod = self._pods.get(uid)
        if pod and (pod.cgroup_pod_id == uid or pod.cgroup_pod_id in self._pods):
            return pod
        return self._aliases.get(pod.cgroup_pod_id if pod else uid, pod)

    def knows(self, container_id: str, pod_id: str) -> bool:
        """Whether there is such a container or such a pod; "" is none."""
        return container_id in self._containers or pod_id in self._pods or pod_id in self._aliases

    def pods(self) -> tuple[PodInfo, ...]:
        """Return every pod known, those that ended recently included."""
        pods = self._pods.copy()
        return tuple(
            replace(pod, cgroup_pod_id=uid)
            if pod.cgroup_pod_id != uid and pod.cgroup_pod_id in pods
            else pod
            for uid, pod in pods.items()
        )

    @property
    def known_pods(self) -> int:
        """How many pods are known, those that ended recently included."""
        return len(self._pods)

    @property
    def live_pods(self) -> int:
        """How many pods there are now, ended ones not counted."""
        return len(self._live)

    def keep(self, uids: frozenset[str]) -> None:
        """Let none of these pods be forgotten, until the next call names others."""
        self._kept = uids

    # --- the one writer ---

    def apply(self, pod: PodInfo) -> None:
        """Take in a pod that was added or modified."""
        self._version += self._put(pod)
        self.expire()

    def remove(self, uid: str) -> None:
        """Note that the pod is gone; it stays known for the retention time."""
        self._version += self._end_pod(uid)
        self.expire()

    def replace(self, pods: Iterable[PodInfo]) -> None:
        """Take in the full set of pods as of now; pods that are not in it have ended."""
        present = {pod.pod_id: pod for pod in pods}
        ended = [self._end_pod(uid) for uid in tuple(self._live) if uid not in present]
        # First those that are known by their own uid, which no other may stand for.
        own_first = sorted(present.values(), key=lambda pod: pod.cgroup_pod_id != pod.pod_id)
        put = [self._put(pod) for pod in own_first]
        self._version += any(ended + put)
        self.expire()

    def expire(self) -> None:
        """Forget what ended longer ago than the retention time; of pods those that none keeps."""
        now_s = self._clock()
        for container_id in self._ended_containers.pop_due(now_s):
            self._contested.discard(container_id)
            del self._containers[container_id]
        for uid in self._ended_pods.pop_due(now_s):
            if uid in self._kept:
                self._ended_pods.add(uid, now_s)
            else:
                self._forget_pod(uid)

    def _put(self, pod: PodInfo) -> bool:
        known = self._live.get(pod.pod_id)
        if known == pod:
            return False
        if known is None and len(self._live) >= MAX_PODS:
            _log.warning("there are more than %d pods on this node: not all are named", MAX_PODS)
            return False
        self._live[pod.pod_id] = self._pods[pod.pod_id] = pod
        self._ended_pods.discard(pod.pod_id)
        if pod.cgroup_pod_id != pod.pod_id and self._may_stand_for(pod):
            self._aliases[pod.cgroup_pod_id] = pod
        for container_id, name in pod.containers:
            self._claim(container_id, name, pod)
        if known is not None:
            self._end_containers(known, {container_id for container_id, _ in pod.containers})
        return True

    def _may_stand_for(self, pod: PodInfo) -> bool:
        """Whether no older pod that has not ended stands for the same cgroups."""
        held = self._aliases.get(pod.cgroup_pod_id, pod)
        return held.created >= pod.created or held.pod_id not in self._live

    def _claim(self, container_id: str, name: str, pod: PodInfo) -> None:
        held = self._containers.get(container_id)
        if held and held[1].pod_id != pod.pod_id and container_id not in self._ended_containers:
            if container_id not in self._contested:
                self._contested.add(container_id)
                names = (f"{claim.pod_namespace}/{claim.pod_name}" for claim in (held[1], pod))
                message = "container %s is claimed by two pods, %s and %s: the newer one gets it"
                _log.warning(message, container_id, *names)
            if held[1].created > pod.created:
                return
        self._containers[container_id] = name, pod
        self._ended_containers.discard(container_id)

    def _end_pod(self, uid: str) -> bool:
        pod = self._live.pop(uid, None)
        if pod is None:
            return False
        self._ended_pods.add(uid, self._clock())
        self._end_containers(pod, set())
        hash_ = pod.cgroup_pod_id
        if self._aliases.get(hash_) == pod:
            mirrors = [each for each in self._live.values() if each.cgroup_pod_id == hash_]
            self._aliases[hash_] = min(mirrors, key=lambda each: each.created, default=pod)
        return True

    def _end_containers(self, pod: PodInfo, still_there: set[str]) -> None:
        """End the containers of *pod* that it still owns and that are not *still_there*."""
        now_s = self._clock()
        for container_id, _ in pod.containers:
            held = self._containers.get(container_id)
            if container_id not in still_there and held and held[1].pod_id == pod.pod_id:
                self._ended_containers.add(container_id, now_s)

    def _forget_pod(self, uid: str) -> None:
        pod = self._pods.pop(uid)
        if self._aliases.get(pod.cgroup_pod_id) == pod:
            del self._aliases[pod.cgroup_pod_id]


class UnknownIds:
    """Container ids that the source could not name, each looked for once in a while only.

    Used by the one thread that looks containers up.
    """

    def __init__(
        self,
        retention_s: float = UNKNOWN_RETENTION_S,
        clock: Callable[[], float] = time.monotonic,
        limit: int = 4096,
    ) -> None:
        """Remember each id for *retention_s*, and never more than *limit* ids."""
        self._clock = clock
        self._ids = Expiring(retention_s, limit - 1)

    def is_news(self, container_id: str) -> bool:
        """Whether *container_id* was not remembered as unknown; it is from now on."""
        now_s = self._clock()
        self._ids.pop_due(now_s)  # so that there is room for one more
        is_news = container_id not in self._ids
        self._ids.add(container_id, now_s)
        return is_news
