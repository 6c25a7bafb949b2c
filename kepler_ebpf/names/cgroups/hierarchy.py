"""The cgroup hierarchies that are mounted, and the one whose cgroups are the workloads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.regular_file import read_regular

V1_CONTROLLERS = ("cpuacct", "cpu", "memory", "pids")
"""v1 controllers to count by, in the order they are chosen; container runtimes use all alike."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


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
    cgroups stay without names. SetupError for a wanted hierarchy that is not mounted,
    and where *mountinfo* cannot be read.
    """
    mounts = _cgroup_mounts(mountinfo, sysfs)
    name = wanted
    if wanted == "auto":
        name = next((v1 for v1 in V1_CONTROLLERS if v1 in mounts), "v2")
    elif wanted not in mounts:
        found = ", ".join(sorted(mounts)) or "none"
        raise SetupError(
            f"cgroup hierarchy {wanted!r} is not mounted (mounted: {found})",
            "mount it, or choose another hierarchy or auto (--cgroup-hierarchy)",
        )
    return CgroupHierarchy(name, None if name == "v2" else mounts[name], mounts.get("v2"))


def _cgroup_mounts(mountinfo: str, sysfs: str) -> dict[str, str]:
    """Mount point by "v2" or v1 controller."""
    try:
        text = read_regular(mountinfo, "utf-8", "surrogateescape")
    except OSError as error:
        raise SetupError(
            f"cannot read {mountinfo}: {error.strerror}", "name the right mount with --host.procfs"
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
    where = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), where)
    if kind == "cgroup2":
        return [("v2", where)]
    used = options.split(",") if kind == "cgroup" else ()
    return [(name, where) for name in V1_CONTROLLERS if name in used]
