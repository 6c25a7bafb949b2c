"""Which of the mounted cgroup hierarchies is counted."""

from pathlib import Path

import pytest

from kepler_ebpf.errors import SetupError
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover

SYSFS = "23 1 0:21 / /sys rw - sysfs sysfs rw"
V2 = "31 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID_V2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd"
CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
FREEZER = "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer"
PIDS = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"


def choose(
    tmp_path: Path, *lines: str, wanted: str = "auto", sysfs: str = "/sys"
) -> CgroupHierarchy:
    """Discover from a mountinfo of these lines."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("\n".join((SYSFS, *lines, "")), encoding="utf-8")
    return discover(wanted, sysfs, str(mountinfo))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((V2,), CgroupHierarchy("v2", None, "/sys/fs/cgroup")),
        ((V2, SYSTEMD), CgroupHierarchy("v2", None, "/sys/fs/cgroup")),
        ((V2, FREEZER), CgroupHierarchy("v2", None, "/sys/fs/cgroup")),
        (
            (MEMORY, CPU, HYBRID_V2),
            CgroupHierarchy("cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"),
        ),
        ((PIDS, MEMORY, SYSTEMD), CgroupHierarchy("memory", "/sys/fs/cgroup/memory", None)),
        ((), CgroupHierarchy("v2", None, None)),
    ],
)
def test_hierarchy_chosen_by_what_is_mounted(
    tmp_path: Path, lines: tuple[str, ...], expected: CgroupHierarchy
) -> None:
    """v2 where it is alone, else the v1 controller that comes first in the order of choice."""
    assert choose(tmp_path, *lines) == expected


@pytest.mark.parametrize(("wanted", "root"), [("v2", None), ("pids", "/sys/fs/cgroup/pids")])
def test_hierarchy_asked_for_by_name(tmp_path: Path, wanted: str, root: str | None) -> None:
    """What the user names is taken, whatever else is mounted."""
    found = choose(tmp_path, CPU, PIDS, HYBRID_V2, wanted=wanted)
    assert found == CgroupHierarchy(wanted, root, "/sys/fs/cgroup/unified")


@pytest.mark.parametrize("wanted", ["memory", "name=systemd ", "v3", ""])
def test_hierarchy_that_is_not_mounted_is_an_error(tmp_path: Path, wanted: str) -> None:
    """The error names what was asked for, what there is, and what to do."""
    with pytest.raises(SetupError, match=r"not mounted \(mounted: pids, v2\)\n.*mount"):
        choose(tmp_path, PIDS, HYBRID_V2, wanted=wanted)


def test_the_hosts_mounts_come_before_our_own(tmp_path: Path) -> None:
    """In a container the mount below the host's sysfs is the one, wherever it is listed."""
    host = "90 80 0:27 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw"
    assert choose(tmp_path, V2, host, sysfs="/host/sys").v2_root == "/host/sys/fs/cgroup"
    assert choose(tmp_path, V2, host, sysfs="/sys").v2_root == "/sys/fs/cgroup"


def test_mount_point_with_a_space(tmp_path: Path) -> None:
    """The kernel's escapes in a mount point are undone."""
    line = r"31 23 0:27 / /my\040cgroups rw - cgroup2 none rw"
    assert choose(tmp_path, line).v2_root == "/my cgroups"


@pytest.mark.parametrize(
    "line",
    [
        "1 2 - cgroup2",
        "1 2 0:27 / /x rw - cgroup2",
        "1 2 0:27 / /x rw - cgroup",
        " - cgroup c pids",
    ],
)
def test_line_that_is_no_mount_is_passed_over(tmp_path: Path, line: str) -> None:
    """What is not of the kernel's form names no hierarchy, and keeps no other from being found."""
    assert choose(tmp_path, line) == CgroupHierarchy("v2", None, None)
    assert choose(tmp_path, line, V2) == CgroupHierarchy("v2", None, "/sys/fs/cgroup")


def test_mount_without_a_source_counts(tmp_path: Path) -> None:
    """A file system may be mounted of nothing, and the kernel then names nothing."""
    line = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2  rw"
    assert choose(tmp_path, line).v2_root == "/sys/fs/cgroup"


def test_a_procfs_that_is_none_is_an_error(tmp_path: Path) -> None:
    """The error names the file and the flag."""
    with pytest.raises(SetupError, match=r"cannot read .*/mountinfo: .*\n.*--host\.procfs"):
        discover(mountinfo=str(tmp_path / "mountinfo"))


def test_this_host_has_what_is_discovered() -> None:
    """The mount points found here are there."""
    found = discover()
    roots = [root for root in (found.v1_root, found.v2_root) if root]
    assert roots
    assert all((Path(root) / "cgroup.procs").exists() for root in roots)
