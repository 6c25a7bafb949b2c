"""Which hierarchy is counted, and the names of cgroups that are there, and that were."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from processes import waiting_shell

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.layout import PATH_LEN
from kepler_ebpf.names.cgroups.paths import (
    CHECK_INTERVAL_S,
    CHECKS,
    UNKNOWN_RETRY_S,
    V1_BIT,
    CgroupHierarchy,
    CgroupPaths,
    discover,
)

ID = "0123456789abcdef" * 4
RETENTION_S = 60.0

SYSFS = "23 1 0:21 / /sys rw - sysfs sysfs rw"
V2 = "31 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID_V2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd"
CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
FREEZER = "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer"
PIDS = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"


class Event(NamedTuple):
    """What the kernel side tells of a cgroup."""

    cgroup_id: int
    path: str
    removed: bool


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands still."""
    return Clock()


@pytest.fixture(params=hierarchies(), ids=lambda hierarchy: hierarchy.name)
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    """Give real cgroups in each hierarchy of this host."""
    with cgroup_tree(request.param) as made:
        yield made


@pytest.fixture
def paths(tree: CgroupTree, clock: Clock) -> Iterator[CgroupPaths]:
    """Give the names of the tree's hierarchy."""
    made = CgroupPaths(tree.hierarchy, RETENTION_S, clock)
    yield made
    made.close()


@pytest.fixture
def unmounted(clock: Clock) -> CgroupPaths:
    """Give names where no hierarchy is mounted: all they know is from events."""
    return CgroupPaths(CgroupHierarchy("v2", None, None), RETENTION_S, clock)


def choose(
    tmp_path: Path, *lines: str, wanted: str = "auto", sysfs: str = "/sys"
) -> CgroupHierarchy:
    """Discover from a mountinfo of these lines."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("\n".join((SYSFS, *lines, "")), encoding="utf-8")
    return discover(wanted, sysfs, str(mountinfo))


# --- which hierarchy


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
    with pytest.raises(SetupError, match=r"not mounted \(mounted: pids, v2\): mount it, or"):
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
    with pytest.raises(SetupError, match=r"cannot read .*/mountinfo: .*--host\.procfs"):
        discover(mountinfo=str(tmp_path / "mountinfo"))


def test_this_host_has_what_is_discovered() -> None:
    """The mount points found here are there."""
    found = discover()
    roots = [root for root in (found.v1_root, found.v2_root) if root]
    assert roots
    assert all((Path(root) / "cgroup.procs").exists() for root in roots)


# --- names of real cgroups


def test_cgroup_of_a_real_process(tree: CgroupTree, paths: CgroupPaths) -> None:
    """The id leads to the very path that the kernel gives for a process in it."""
    cgroup = tree.make(f"/docker/{ID}")
    with waiting_shell() as pid:
        cgroup.enter(pid)
        memberships = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
        assert any(line.endswith(f":{paths.lookup(cgroup.id)}") for line in memberships)
    assert paths.lookup(cgroup.id) == cgroup.path


def test_a_removed_cgroup_keeps_its_name(tree: CgroupTree, paths: CgroupPaths) -> None:
    """A cgroup that was looked up once is named after its removal too."""
    cgroup = tree.make("/brief")
    paths.lookup(cgroup.id)
    cgroup.remove()
    assert paths.lookup(cgroup.id) == cgroup.path


def test_a_removal_without_an_event_is_noticed(
    tree: CgroupTree, paths: CgroupPaths, clock: Clock
) -> None:
    """Remembered cgroups are checked in turns, so that each end is seen."""
    kept = [tree.make(f"/kept{number}") for number in range(2 * CHECKS)]
    brief = tree.make("/brief")
    for cgroup in (*kept, brief):
        paths.lookup(cgroup.id)
    brief.remove()
    for _ in range(3):
        clock.now_s += CHECK_INTERVAL_S
        paths.learn([])
    assert paths.take_ended() == (brief.id,)
    assert paths.is_ended(brief.id)
    assert not any(paths.is_ended(cgroup.id) for cgroup in kept)


def test_v1_and_v2_ids_do_not_meet() -> None:
    """The same inode number in both hierarchies is two cgroups."""
    found = discover()
    paths = CgroupPaths(found)
    root_ids = {V1_BIT | 1: found.v1_root, 1: found.v2_root}
    for root_id, root in root_ids.items():
        assert paths.lookup(root_id) == ("/" if root else None)
    paths.close()


# --- names from events


def test_a_cgroup_that_came_and_went_is_named(unmounted: CgroupPaths) -> None:
    """Events name a cgroup that no look-up could have found."""
    unmounted.learn([Event(7, "/docker/a", removed=False), Event(7, "/docker/a", removed=True)])
    assert unmounted.lookup(7) == "/docker/a"
    assert unmounted.is_ended(7)
    assert unmounted.take_ended() == (7,)
    assert unmounted.take_ended() == ()


def test_a_removal_alone_names_a_cgroup(unmounted: CgroupPaths) -> None:
    """A cgroup older than we are, first heard of at its end, is named."""
    unmounted.learn([Event(7, "/docker/a", removed=True)])
    assert unmounted.lookup(7) == "/docker/a"


def test_an_ended_cgroup_is_forgotten_after_the_retention(
    unmounted: CgroupPaths, clock: Clock
) -> None:
    """Its name lasts as long as its energy is shown, and no longer."""
    unmounted.learn([Event(7, "/docker/a", removed=True), Event(8, "/docker/b", removed=False)])
    clock.now_s = RETENTION_S - 1
    unmounted.learn([])
    assert unmounted.lookup(7) == "/docker/a"
    clock.now_s = RETENTION_S
    unmounted.learn([])
    assert (unmounted.lookup(7), unmounted.lookup(8)) == (None, "/docker/b")


def test_a_reused_id_is_the_new_cgroup(unmounted: CgroupPaths, clock: Clock) -> None:
    """A second cgroup with the id of an ended one has its own name and life."""
    unmounted.learn([Event(7, "/docker/a", removed=True), Event(7, "/docker/b", removed=False)])
    clock.now_s = 2 * RETENTION_S
    unmounted.learn([])
    assert (unmounted.lookup(7), unmounted.is_ended(7)) == ("/docker/b", False)


def test_a_path_that_was_cut_is_looked_up(tree: CgroupTree, paths: CgroupPaths) -> None:
    """An event has room for so much of a path; the container at its end must not be lost."""
    cgroup = tree.make("/" + "/".join(["x" * 200] * 3) + f"/docker/{ID}")
    paths.learn([Event(cgroup.id, cgroup.path[: PATH_LEN - 1], removed=False)])
    assert paths.lookup(cgroup.id) == cgroup.path
    paths.learn([Event(cgroup.id, cgroup.path[: PATH_LEN - 1], removed=True)])
    assert paths.lookup(cgroup.id) == cgroup.path


def test_an_event_names_an_unknown_id_at_once(unmounted: CgroupPaths) -> None:
    """What was looked for in vain is found as soon as its event comes."""
    assert unmounted.lookup(7) is None
    unmounted.learn([Event(7, "/docker/a", removed=False)])
    assert unmounted.lookup(7) == "/docker/a"


def test_an_unknown_id_is_found_once_it_is_there(tmp_path: Path, clock: Clock) -> None:
    """Where the tree has to be walked, a young cgroup is named by the next walk."""
    paths = CgroupPaths(CgroupHierarchy("v2", None, str(tmp_path)), RETENTION_S, clock)
    paths.lookup(1)
    (tmp_path / "young").mkdir()
    young = (tmp_path / "young").stat().st_ino
    assert paths.lookup(young) is None
    clock.now_s = UNKNOWN_RETRY_S / 2
    assert paths.lookup(young) is None
    clock.now_s = UNKNOWN_RETRY_S
    assert paths.lookup(young) == "/young"
    paths.close()


@pytest.fixture
def deep_directory_fd() -> Iterator[int]:
    """Give the directory of a real cgroup whose path is longer than the kernel tells in one go."""
    with cgroup_tree(hierarchies()[0]) as tree:
        open_fds = [os.open(tree.make("/deep").directory, os.O_RDONLY)]
        try:
            for _ in range(17):
                os.mkdir("d" * 250, dir_fd=open_fds[-1])
                open_fds.append(os.open("d" * 250, os.O_RDONLY, dir_fd=open_fds[-1]))
            yield open_fds[-1]
        finally:
            os.close(open_fds.pop())
            while open_fds:
                os.rmdir("d" * 250, dir_fd=open_fds[-1])
                os.close(open_fds.pop())


def test_a_path_too_long_to_be_told_is_unknown(deep_directory_fd: int) -> None:
    """A cgroup nested too deep has no name, its event is taken, and nothing breaks."""
    hierarchy = hierarchies()[0]
    paths = CgroupPaths(hierarchy)
    cgroup_id = os.fstat(deep_directory_fd).st_ino | (V1_BIT if hierarchy.v1_root else 0)
    assert paths.lookup(cgroup_id) is None
    paths.learn([Event(cgroup_id, "/d" * (PATH_LEN // 2), removed=False)])
    paths.close()


def test_a_cgroup_met_after_its_end_ends_again(clock: Clock) -> None:
    """Whoever asks for a cgroup that is known to be gone is told of its end once more."""
    paths = CgroupPaths(CgroupHierarchy("v2", None, None), RETENTION_S, clock)
    paths.learn([Event(7, "/docker/a", removed=True)])
    assert paths.take_ended() == (7,)
    assert paths.lookup(7) == "/docker/a"
    assert paths.take_ended() == (7,)
    assert paths.take_ended() == ()
