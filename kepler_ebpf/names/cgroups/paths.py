"""Cgroup ids to paths: which hierarchy is counted, and the names it has and had.

An id is what the kernel side reports: the inode of the cgroup's directory, with bit 63 set when
that is in the chosen v1 hierarchy and clear when it is in v2. A cgroup that came and went between
two looks still has its name from the kernel's own events.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from kepler_ebpf.config.options import V1_CONTROLLERS
from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.kernel.layout import CGROUP_V1, PATH_LEN
from kepler_ebpf.names.cgroups.kernfs import NoResolver, Resolver, make_resolver

V1_BIT = int(CGROUP_V1)
"""Set in the id of a cgroup that is in the chosen v1 hierarchy."""

UNKNOWN_RETRY_S = 1.0
"""An id without a path is not asked for again for this long."""

CHECK_INTERVAL_S = 0.1
CHECKS = 8
"""So many remembered cgroups are checked to be still there, at most once per interval."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


# --- which hierarchy --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CgroupHierarchy:
    """The hierarchy whose cgroups are the workloads.

    ``name`` is "v2" or a v1 controller. ``v1_root`` is that controller's mount point, None for
    v2. ``v2_root`` is the mount point of v2, which also holds the tasks that are in the root of
    the v1 hierarchy; None when v2 is not mounted.
    """

    name: str
    v1_root: str | None
    v2_root: str | None


def discover(
    wanted: str = "auto", sysfs: str = "/sys", mountinfo: str = "/proc/self/mountinfo"
) -> CgroupHierarchy:
    """Choose the hierarchy from the cgroup mounts, those below *sysfs* before any other.

    *wanted* is "auto", "v2" or a v1 controller. "auto" takes v2 where it is alone, else the first
    mounted of ``V1_CONTROLLERS``; where nothing is mounted it gives v2 without a mount point, and
    cgroups stay without names. SetupError for a hierarchy asked for by name that is not mounted,
    and where *mountinfo* cannot be read.
    """
    mounts = _cgroup_mounts(mountinfo, sysfs)
    name = _automatic(mounts) if wanted == "auto" else wanted
    if wanted != "auto" and wanted not in mounts:
        found = ", ".join(sorted(mounts)) or "none"
        raise SetupError(
            f"cgroup hierarchy {wanted!r} is not mounted (mounted: {found}): "
            f"mount it, or choose another or auto"
        )
    return CgroupHierarchy(name, None if name == "v2" else mounts[name], mounts.get("v2"))


def _automatic(mounts: dict[str, str]) -> str:
    return next((name for name in V1_CONTROLLERS if name in mounts), "v2")


def _cgroup_mounts(mountinfo: str, sysfs: str) -> dict[str, str]:
    """Mount point by "v2" or v1 controller."""
    try:
        text = read_regular(mountinfo, "utf-8", "surrogateescape")
    except OSError as error:
        raise SetupError(
            f"cannot read {mountinfo}: {error.strerror}: name the right mount with --host.procfs"
        ) from error
    mounts = [mount for line in text.splitlines() for mount in _parse_mount(line)]
    # Stable: of several mounts the first one below sysfs wins, else the first one.
    mounts.sort(key=lambda mount: not mount[1].startswith(sysfs.rstrip("/") + "/"))
    return dict(reversed(mounts))


def _parse_mount(line: str) -> list[tuple[str, str]]:
    """Return the (hierarchy, mount point) pairs of a line; none for other file systems.

    A line that is not of the kernel's form is of no file system.
    """
    mount, _, system = line.partition(" - ")
    try:
        _, _, _, _, where, *_ = mount.split(" ")
        kind, _, options, *_ = system.split(" ")
    except ValueError:
        return []
    if kind == "cgroup2":
        return [("v2", _unescape(where))]
    if kind == "cgroup":
        used = options.split(",")
        return [(name, _unescape(where)) for name in V1_CONTROLLERS if name in used]
    return []


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


# --- names ------------------------------------------------------------------------------------


class PathEvent(Protocol):
    """A cgroup was made or removed (see ``kernel.account.CgroupEvent``)."""

    @property
    def cgroup_id(self) -> int:
        """The id as everywhere."""

    @property
    def path(self) -> str:
        """The path in its hierarchy, cut to ``layout.PATH_LEN``."""

    @property
    def removed(self) -> bool:
        """Whether it is gone."""


class CgroupPaths:
    """Remembers the path of each cgroup, for a while also of those that are gone.

    Not thread-safe: one owner asks and feeds it.
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
        self._resolvers = {
            V1_BIT: _resolver(hierarchy.v1_root, clock),
            0: _resolver(hierarchy.v2_root, clock),
        }
        self._paths: dict[int, str] = {}
        # Ordered, so that each round looks at the entries that waited longest and no others.
        self._live: OrderedDict[int, None] = OrderedDict()
        self._ended_at: OrderedDict[int, float] = OrderedDict()
        self._unknown_since: OrderedDict[int, float] = OrderedDict()
        self._newly_ended: list[int] = []
        self._checked_at = clock()

    def lookup(self, cgroup_id: int) -> str | None:
        """Find the path within its hierarchy ("/" is the root); None when it is not known (yet)."""
        path = self._paths.get(cgroup_id)
        if cgroup_id in self._ended_at and cgroup_id not in self._newly_ended:
            # Whoever asks has not met it before: its end is news once more.
            self._newly_ended.append(cgroup_id)
        if path is not None or self._is_unknown(cgroup_id):
            return path
        path = self._resolve(cgroup_id)
        if path is None:
            self._unknown_since[cgroup_id] = self._clock()
        else:
            self._remember(cgroup_id, path)
        return path

    def learn(self, events: Iterable[PathEvent]) -> None:
        """Take what the kernel tells of cgroups made and removed; call it each interval.

        Also notices, a few cgroups at a time, removals that brought no event, and forgets
        what ended more than the retention ago.
        """
        for event in events:
            self._remember(event.cgroup_id, self._whole_path(event))
            if event.removed:
                self._end(event.cgroup_id)
        now = self._clock()
        if now - self._checked_at >= CHECK_INTERVAL_S:
            self._checked_at = now
            self._check_some()
            self._forget(now)

    def is_ended(self, cgroup_id: int) -> bool:
        """Whether the cgroup is known to have been removed (and not forgotten since)."""
        return cgroup_id in self._ended_at

    def remembers(self, cgroup_id: int) -> bool:
        """Whether the cgroup was met and is there, or ended within the retention."""
        return cgroup_id in self._paths

    def take_ended(self) -> tuple[int, ...]:
        """Return the ids whose removal was noticed since the last call."""
        ended, self._newly_ended = tuple(self._newly_ended), []
        return ended

    def close(self) -> None:
        """Release what is held open; no lookups after this."""
        for resolver in self._resolvers.values():
            resolver.close()

    def _whole_path(self, event: PathEvent) -> str:
        """Return an event's path, or a better one where the kernel side had to cut it."""
        if len(event.path.encode("utf-8", "replace")) < PATH_LEN - 1:
            return event.path
        known = self._resolve(event.cgroup_id) or self._paths.get(event.cgroup_id)
        return known or event.path

    def _resolve(self, cgroup_id: int) -> str | None:
        try:
            return self._resolvers[cgroup_id & V1_BIT].path(cgroup_id & ~V1_BIT)
        except OSError:
            # A path longer than the kernel tells in one piece, or no descriptor to be had.
            return None

    def _is_unknown(self, cgroup_id: int) -> bool:
        since = self._unknown_since.get(cgroup_id)
        if since is None or self._clock() - since < UNKNOWN_RETRY_S:
            return since is not None
        del self._unknown_since[cgroup_id]
        return False

    def _remember(self, cgroup_id: int, path: str) -> None:
        self._unknown_since.pop(cgroup_id, None)
        self._ended_at.pop(cgroup_id, None)
        self._live[cgroup_id] = None
        self._paths[cgroup_id] = path

    def _end(self, cgroup_id: int) -> None:
        self._live.pop(cgroup_id, None)
        self._ended_at[cgroup_id] = self._clock()
        self._newly_ended.append(cgroup_id)

    def _check_some(self) -> None:
        for cgroup_id in list(itertools.islice(self._live, CHECKS)):
            if self._exists(cgroup_id):
                self._live.move_to_end(cgroup_id)
            else:
                self._end(cgroup_id)

    def _exists(self, cgroup_id: int) -> bool:
        try:
            return self._resolvers[cgroup_id & V1_BIT].exists(cgroup_id & ~V1_BIT)
        except OSError:
            return True

    def _forget(self, now: float) -> None:
        for cgroup_id in _pop_older(self._ended_at, now - self._retention_s):
            del self._paths[cgroup_id]
        _pop_older(self._unknown_since, now - UNKNOWN_RETRY_S)


def _resolver(root: str | None, clock: Callable[[], float]) -> Resolver:
    return NoResolver() if root is None else make_resolver(root, clock)


def _pop_older(times: OrderedDict[int, float], limit: float) -> list[int]:
    """Take the ids out of *times* (oldest first) that are not younger than *limit*."""
    old = list(itertools.takewhile(lambda key: times[key] <= limit, times))
    for key in old:
        del times[key]
    return old
