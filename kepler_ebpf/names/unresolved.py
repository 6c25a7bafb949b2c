"""Cgroups whose pod or container the API has not told of yet.

All of them are held against the pod index when that has changed, which takes a look-up each. Those
that it tells of are then named anew, a few at a time.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import islice

from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.kubernetes.index import UNKNOWN_RETENTION_S, PodIndex

CHECKS = 512
"""So many that stay unknown are checked in one look, for whether to go on waiting for them."""


@dataclass(slots=True)
class UnresolvedCgroup:
    """A cgroup of which something is to be learned.

    ``by_path`` is what its path tells, ``told`` what the ledger was told. ``pod_id`` is its pod's
    while the API does not know that, "" where it is the container alone that is unknown.
    """

    by_path: CgroupName
    told: CgroupName
    container_id: str
    pod_id: str
    until_s: float = math.inf

    def is_given_up(self, now_s: float) -> bool:
        """Tell whether its container stays unknown: one of a pod's sandbox, or of no pod.

        The time runs from the first word of the API that could have been about it.
        """
        if self.pod_id:
            return False
        self.until_s = min(self.until_s, now_s + UNKNOWN_RETENTION_S)
        return now_s >= self.until_s


class UnresolvedCgroups:
    """Those cgroups by their id. What is gone makes room, what lives never does."""

    def __init__(self, paths: CgroupPaths, limit: int) -> None:
        """Hold those that live, and with them no more than *limit* in all; *paths* tells who do."""
        self._paths = paths
        self._limit = limit
        self._waiting: OrderedDict[int, UnresolvedCgroup] = OrderedDict()
        self._due: tuple[deque[tuple[int, UnresolvedCgroup]], ...] = (deque(), deque())

    def __len__(self) -> int:
        """How many wait, those that are due not counted."""
        return len(self._waiting)

    def add(self, cgroup_id: int, stranger: UnresolvedCgroup) -> None:
        """Let a cgroup wait, until the next ``look`` at least."""
        self._waiting[cgroup_id] = stranger

    def look(self, index: PodIndex, now_s: float) -> None:
        """Make those due that *index* tells of, and drop some of those it will not tell of."""
        knows, waiting, is_ended = index.knows, self._waiting, self._paths.is_ended
        known = [key for key, it in waiting.items() if knows(it.container_id, it.pod_id)]
        for cgroup_id in known:
            self._due[is_ended(cgroup_id)].append((cgroup_id, waiting.pop(cgroup_id)))
        for cgroup_id in list(islice(waiting, CHECKS)):
            waiting.move_to_end(cgroup_id)
            if self._is_out(cgroup_id, now_s):
                del waiting[cgroup_id]

    def take(self, count: int) -> list[tuple[int, UnresolvedCgroup]]:
        """Take out up to *count* of those that are due, the living first.

        Drops those that are not listed any more.
        """
        taken: list[tuple[int, UnresolvedCgroup]] = []
        for due in self._due:
            while due and len(taken) < count:
                cgroup_id, stranger = due.popleft()
                if self._paths.remembers(cgroup_id):
                    taken.append((cgroup_id, stranger))
        return taken

    def make_room(self) -> None:
        """Drop what is beyond the limit: of the cgroups that ended those that came first."""
        surplus = len(self._waiting) - self._limit
        if surplus > 0:
            ended = filter(self._paths.is_ended, self._waiting)
            for cgroup_id in list(islice(ended, surplus)):
                del self._waiting[cgroup_id]

    def _is_out(self, cgroup_id: int, now_s: float) -> bool:
        """Tell whether a cgroup is not listed any more, or will not be told of."""
        is_listed = self._paths.remembers(cgroup_id)
        return not is_listed or self._waiting[cgroup_id].is_given_up(now_s)
