"""From the id of a cgroup to its path: the paths of the cgroups there are, and of those there were.

An id is what the kernel side reports: the inode of the cgroup's directory, with bit 63 set when
that is in the chosen v1 hierarchy and clear when it is in v2. A cgroup that came and went between
two looks still has its path from the kernel's own events.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from kepler_ebpf.model.bounds import Limit
from kepler_ebpf.model.names import CGROUP_V1_BIT, CgroupEvent
from kepler_ebpf.names.cgroups.containers import ids_in, is_kata_overhead, match_container
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.kernfs import Resolver, make_resolver

MAX_EVENT_PATH = 511
"""Bytes; the kernel side cuts a longer path of an event."""

MAX_PATH = 1_024
"""Characters of a path that are remembered; components beyond are left off."""

MAX_REMEMBERED = 20_000
"""Cgroups whose paths are remembered: so many that are there, and so many that have ended."""

MAX_SAME = 64
"""Paths, the first, that are looked at for one container: one is enough where it is real."""

MAX_CHECKS = 64
"""Cgroups that one ``check`` looks at."""


class CgroupPaths:
    """Remembers the path of each cgroup, for a while also of those that are gone.

    Beyond the limit a cgroup that is there has to be found again for each look-up, those that ended
    first are forgotten, and only ends of cgroups that were looked up are reported. Not thread-safe.
    """

    def __init__(
        self,
        hierarchy: CgroupHierarchy,
        retention_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the path of an ended cgroup for *retention_s* after its end was noticed."""
        self._retention_s = retention_s
        self._clock = clock
        self._above_mount: dict[int, str] = {}
        self._mount = (hierarchy.v1_root or hierarchy.v2_root or "").rstrip("/")
        roots = {CGROUP_V1_BIT: hierarchy.v1_root, 0: hierarchy.v2_root}
        self._resolvers = {
            bit: make_resolver(root, clock) if root else Resolver() for bit, root in roots.items()
        }
        self._paths: dict[int, str] = {}
        self._by_container: dict[str, dict[int, None]] = {}
        self._ended_at: OrderedDict[int, float] = OrderedDict()
        self._newly_ended: dict[int, None] = {}
        self._looked_up: set[int] = set()
        self._to_check: deque[int] = deque()
        self.limit = Limit("cgroup_paths", "not every cgroup's path is remembered")
        self._resync_at_s = 0.0

    def lookup(self, cgroup_id: int) -> str | None:
        """Find the path within its hierarchy ("/" is the root); None when it is not known (yet).

        The end of the cgroup is reported from now on, even where it was before.
        """
        if cgroup_id in self._ended_at:
            self._newly_ended[cgroup_id] = None
        else:
            self._looked_up.add(cgroup_id)
        return self.path(cgroup_id)

    def path(self, cgroup_id: int) -> str | None:
        """Find the path as ``lookup`` does, without a report of the end."""
        path = self._paths.get(cgroup_id)
        if path is None:
            path = self._resolve(cgroup_id)
            if path is not None:
                self._remember(cgroup_id, path)
        return path

    def find_sandbox(self, container_id: str) -> str | None:
        """Find the path of the Kata sandbox with that id among the remembered ones."""
        for path in self.with_container(container_id.rpartition("/")[2]):
            if not is_kata_overhead(path):
                match = match_container(path)
                if match and match.container_id == container_id:
                    return path
        return None

    def with_container(self, container_id: str) -> Iterator[str]:
        """Yield the first remembered paths with that id (``ids_in``) in them."""
        cgroup_ids = self._by_container.get(container_id, ())
        return (self._paths[cgroup_id] for cgroup_id in islice(cgroup_ids, MAX_SAME))

    def containing(self, part: str) -> Iterator[str]:
        """Yield the remembered paths with *part* in them."""
        return (path for path in self._paths.values() if part in path)

    def is_roots(self, path: str) -> bool:
        """Whether a cgroup is there and belongs to root, so that none but root makes one in it."""
        try:
            return bool(self._mount) and Path(f"{self._mount}{path}").stat().st_uid == 0
        except OSError:
            return False

    def learn(self, events: Iterable[CgroupEvent]) -> None:
        """Take in cgroups made and removed, and forget those that ended before the retention."""
        now_s = self._clock()
        for event in events:
            path = self._below_mount(event)
            self._forget(event.cgroup_id)
            if event.removed:
                self._keep(event.cgroup_id, path)
                self._end(event.cgroup_id, now_s)
            else:
                self._remember(event.cgroup_id, path)
        ended_at = self._ended_at
        while ended_at and ended_at[next(iter(ended_at))] <= now_s - self._retention_s:
            self._forget(next(iter(ended_at)))

    def resync(self) -> None:
        """Have every cgroup checked that may be there: the kernel has lost events."""
        self._resync_at_s = self._clock()
        self._to_check = deque((self._paths.keys() | self._looked_up) - self._ended_at.keys())

    @property
    def has_checks(self) -> bool:
        """Whether ``check`` has cgroups to look at."""
        return bool(self._to_check)

    def check(self) -> None:
        """Look whether some of the cgroups of the last ``resync`` are still there."""
        now_s = self._clock()
        for _ in range(min(MAX_CHECKS, len(self._to_check))):
            cgroup_id = self._to_check.popleft()
            if cgroup_id not in self._ended_at and not self._exists(cgroup_id):
                self._end(cgroup_id, now_s)

    def is_ended(self, cgroup_id: int) -> bool:
        """Whether the cgroup is known to have been removed (and not forgotten since)."""
        return cgroup_id in self._ended_at

    def remembers(self, cgroup_id: int) -> bool:
        """Whether the path of the cgroup is known: it is there, or ended within the retention."""
        return cgroup_id in self._paths

    def take_ended(self) -> tuple[int, ...]:
        """Return the ids whose removal was noticed since the last call."""
        ended, self._newly_ended = tuple(self._newly_ended), {}
        return ended

    def close(self) -> None:
        """Release what is held open; no lookups after this."""
        for resolver in self._resolvers.values():
            resolver.close()

    def _below_mount(self, event: CgroupEvent) -> str:
        """Return an event's path as ``lookup`` would: a subtree alone may be mounted (kind, k3d).

        What is above the mount point shows with the first cgroup that has both paths.
        """
        cgroup_id, path = event.cgroup_id, self._whole_path(event)
        bit = cgroup_id & CGROUP_V1_BIT
        if bit not in self._above_mount:
            below = self._resolve(cgroup_id)
            if below is None or not path.endswith(below):
                return path
            self._above_mount[bit] = path.removesuffix(below)
        above = self._above_mount[bit]
        return path.removeprefix(above) if path.startswith(f"{above}/") else path

    def _whole_path(self, event: CgroupEvent) -> str:
        """Return an event's path, or a better one where the kernel side had to cut it."""
        if len(event.path.encode("utf-8", "replace")) < MAX_EVENT_PATH:
            return event.path
        known = self._resolve(event.cgroup_id) or self._paths.get(event.cgroup_id)
        return known or event.path

    def _resolve(self, cgroup_id: int) -> str | None:
        try:
            path = self._resolvers[cgroup_id & CGROUP_V1_BIT].path(cgroup_id & ~CGROUP_V1_BIT)
        except OSError:
            # A path longer than the kernel gives in one piece, or no descriptor to be had.
            return None
        is_long = path is not None and len(path) > MAX_PATH
        return path[:MAX_PATH].rpartition("/")[0] if path and is_long else path

    def _remember(self, cgroup_id: int, path: str) -> None:
        """Keep the path of a cgroup that is there, if there is room."""
        if len(self._paths) - len(self._ended_at) < MAX_REMEMBERED:
            self._keep(cgroup_id, path)
        else:
            self.limit.reached()

    def _keep(self, cgroup_id: int, path: str) -> None:
        self._paths[cgroup_id] = path
        for container_id in ids_in(path):
            self._by_container.setdefault(container_id, {})[cgroup_id] = None

    def _end(self, cgroup_id: int, now_s: float) -> None:
        # Of what nobody has looked up the end is reported with the look-up, where there are many.
        if cgroup_id in self._looked_up or len(self._newly_ended) < MAX_REMEMBERED:
            self._looked_up.discard(cgroup_id)
            self._newly_ended[cgroup_id] = None
        self._ended_at[cgroup_id] = now_s
        if len(self._ended_at) > MAX_REMEMBERED:
            self.limit.reached()
            self._forget(next(iter(self._ended_at)))

    def _forget(self, cgroup_id: int) -> None:
        self._ended_at.pop(cgroup_id, None)
        for container_id in ids_in(self._paths.pop(cgroup_id, "")):
            of_container = self._by_container[container_id]
            del of_container[cgroup_id]
            if not of_container:
                del self._by_container[container_id]

    def _exists(self, cgroup_id: int) -> bool:
        try:
            resolver = self._resolvers[cgroup_id & CGROUP_V1_BIT]
            return resolver.exists(cgroup_id & ~CGROUP_V1_BIT, self._resync_at_s)
        except OSError:
            return True
