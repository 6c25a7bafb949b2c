"""The paths of cgroups that are there, and that were."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from processes import waiting_shell

from kepler_ebpf.kernel.layout import CGROUP_V1, PATH_LEN
from kepler_ebpf.model.names import CGROUP_V1_BIT, CgroupEvent
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy, discover
from kepler_ebpf.names.cgroups.kernfs import WALK_INTERVAL_S
from kepler_ebpf.names.cgroups.paths import (
    MAX_CHECKS,
    MAX_EVENT_PATH,
    MAX_PATH,
    MAX_REMEMBERED,
    CgroupPaths,
)

ID = "0123456789abcdef" * 4
RETENTION_S = 60.0


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


def test_a_removal_whose_event_was_lost_is_noticed(tree: CgroupTree, paths: CgroupPaths) -> None:
    """After a resync the remembered cgroups are checked, a limited number at a time."""
    kept = [tree.make(f"/kept{number}") for number in range(MAX_CHECKS)]
    brief = tree.make("/brief")
    for cgroup in (*kept, brief):
        paths.lookup(cgroup.id)
    brief.remove()
    paths.check()
    assert (paths.has_checks, paths.take_ended()) == (False, ())
    paths.resync()
    paths.check()
    first = paths.has_checks
    paths.check()
    assert (first, paths.has_checks) == (True, False)
    assert paths.take_ended() == (brief.id,)
    assert paths.is_ended(brief.id)
    assert not any(paths.is_ended(cgroup.id) for cgroup in kept)


def test_v1_and_v2_ids_do_not_meet() -> None:
    """The same inode number in both hierarchies is two cgroups."""
    found = discover()
    paths = CgroupPaths(found)
    root_ids = {CGROUP_V1_BIT | 1: found.v1_root, 1: found.v2_root}
    for root_id, root in root_ids.items():
        assert paths.lookup(root_id) == ("/" if root else None)
    paths.close()


# --- names from events


def test_a_cgroup_that_came_and_went_is_named(unmounted: CgroupPaths) -> None:
    """Events name a cgroup that no look-up could have found."""
    unmounted.learn(
        [CgroupEvent(7, "/docker/a", removed=False), CgroupEvent(7, "/docker/a", removed=True)]
    )
    assert unmounted.lookup(7) == "/docker/a"
    assert unmounted.is_ended(7)
    assert unmounted.take_ended() == (7,)
    assert unmounted.take_ended() == ()


def test_a_removal_alone_names_a_cgroup(unmounted: CgroupPaths) -> None:
    """A cgroup older than we are, first heard of at its end, is named."""
    unmounted.learn([CgroupEvent(7, "/docker/a", removed=True)])
    assert unmounted.lookup(7) == "/docker/a"


def test_an_ended_cgroup_is_forgotten_after_the_retention(
    unmounted: CgroupPaths, clock: Clock
) -> None:
    """Its name lasts as long as its energy is shown, and no longer."""
    unmounted.learn(
        [CgroupEvent(7, "/docker/a", removed=True), CgroupEvent(8, "/docker/b", removed=False)]
    )
    clock.now_s = RETENTION_S - 1
    unmounted.learn([])
    assert unmounted.lookup(7) == "/docker/a"
    clock.now_s = RETENTION_S
    unmounted.learn([])
    assert (unmounted.lookup(7), unmounted.lookup(8)) == (None, "/docker/b")


def test_a_reused_id_is_the_new_cgroup(unmounted: CgroupPaths, clock: Clock) -> None:
    """A second cgroup with the id of an ended one has its own name and life."""
    unmounted.learn(
        [CgroupEvent(7, "/docker/a", removed=True), CgroupEvent(7, "/docker/b", removed=False)]
    )
    clock.now_s = 2 * RETENTION_S
    unmounted.learn([])
    assert (unmounted.lookup(7), unmounted.is_ended(7)) == ("/docker/b", False)


def test_a_path_that_was_cut_is_looked_up(tree: CgroupTree, paths: CgroupPaths) -> None:
    """An event has room for so much of a path; the container at its end must not be lost."""
    cgroup = tree.make("/" + "/".join(["x" * 200] * 3) + f"/docker/{ID}")
    paths.learn([CgroupEvent(cgroup.id, cgroup.path[:MAX_EVENT_PATH], removed=False)])
    assert paths.lookup(cgroup.id) == cgroup.path
    paths.learn([CgroupEvent(cgroup.id, cgroup.path[:MAX_EVENT_PATH], removed=True)])
    assert paths.lookup(cgroup.id) == cgroup.path


def test_an_event_names_an_unknown_id_at_once(unmounted: CgroupPaths) -> None:
    """What was looked for in vain is found as soon as its event comes."""
    assert unmounted.lookup(7) is None
    unmounted.learn([CgroupEvent(7, "/docker/a", removed=False)])
    assert unmounted.lookup(7) == "/docker/a"


def test_an_unknown_id_is_found_once_it_is_there(tmp_path: Path, clock: Clock) -> None:
    """Where the tree has to be walked, a young cgroup is named by the next walk."""
    paths = CgroupPaths(CgroupHierarchy("v2", None, str(tmp_path)), RETENTION_S, clock)
    paths.lookup(1)
    (tmp_path / "young").mkdir()
    young = (tmp_path / "young").stat().st_ino
    assert paths.lookup(young) is None
    clock.now_s = WALK_INTERVAL_S
    assert paths.lookup(young) == "/young"
    paths.close()


def test_every_lost_removal_is_noticed_by_one_walk(tmp_path: Path, clock: Clock) -> None:
    """Where the tree has to be walked, no cgroup that is gone stays for good after a resync."""
    paths = CgroupPaths(CgroupHierarchy("v2", None, str(tmp_path)), RETENTION_S, clock)
    (tmp_path / "kept").mkdir()
    kept = (tmp_path / "kept").stat().st_ino
    paths.learn([CgroupEvent(number, "/gone", removed=False) for number in (1, 2, 3)])
    assert [paths.lookup(number) for number in (1, 2, 3)] == ["/gone"] * 3
    assert paths.lookup(kept) == "/kept"
    paths.resync()
    paths.check()
    assert (paths.take_ended(), paths.has_checks) == ((1, 2, 3), False)
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
    cgroup_id = os.fstat(deep_directory_fd).st_ino | (CGROUP_V1_BIT if hierarchy.v1_root else 0)
    assert paths.lookup(cgroup_id) is None
    paths.learn([CgroupEvent(cgroup_id, "/d" * (MAX_EVENT_PATH // 2 + 1), removed=False)])
    paths.close()


def test_a_cgroup_met_after_its_end_ends_again(clock: Clock) -> None:
    """Whoever asks for a cgroup that is known to be gone is told of its end, each time."""
    paths = CgroupPaths(CgroupHierarchy("v2", None, None), RETENTION_S, clock)
    paths.learn([CgroupEvent(7, "/docker/a", removed=True)])
    assert paths.lookup(7) == "/docker/a"
    assert paths.take_ended() == (7,)
    assert paths.lookup(7) == "/docker/a"
    assert paths.take_ended() == (7,)
    assert paths.take_ended() == ()


def test_ids_and_paths_are_as_the_kernel_side_has_them() -> None:
    """The bit of v1 and the length of a path are the same on both sides."""
    assert (int(CGROUP_V1), PATH_LEN - 1) == (CGROUP_V1_BIT, MAX_EVENT_PATH)


# --- many


def remembered(paths: CgroupPaths, count: int) -> int:
    """Return how many of the first *count* ids have a path."""
    return sum(map(paths.remembers, range(count)))


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "living"])
def test_what_is_remembered_of_a_storm_of_cgroups_is_bounded(
    unmounted: CgroupPaths, *, ends: bool
) -> None:
    """Those that ended first are forgotten; one that is there is found again when it is needed."""
    count = 3 * MAX_REMEMBERED
    for number in range(count):
        unmounted.learn([CgroupEvent(number, f"/{number}", removed=False)])
        if ends:
            unmounted.learn([CgroupEvent(number, f"/{number}", removed=True)])
    assert remembered(unmounted, count) == MAX_REMEMBERED
    assert unmounted.remembers(count - 1) == ends
    assert unmounted.limit.count == count - MAX_REMEMBERED


def test_the_ends_that_wait_to_be_reported_are_bounded(unmounted: CgroupPaths) -> None:
    """The end of a cgroup that was looked up is among them, however many others end."""
    last = MAX_REMEMBERED + 100
    unmounted.lookup(last)
    unmounted.learn(CgroupEvent(number, "/x", removed=True) for number in range(last + 1))
    ended = unmounted.take_ended()
    assert len(ended) == MAX_REMEMBERED + 1
    assert last in ended


def test_a_storm_of_ended_cgroups_is_looked_up_in_one_step_each(unmounted: CgroupPaths) -> None:
    """No look-up searches through the others: their ids are not even compared."""

    class Id(int):
        """An id that counts how often it is compared."""

        compared = 0

        def __eq__(self, other: object) -> bool:
            Id.compared += 1
            return int(self) == other

        def __hash__(self) -> int:
            return hash(int(self))

    ids = [Id(number) for number in range(5_000)]
    unmounted.learn([CgroupEvent(number, "/x", removed=True) for number in ids])
    for number in range(5_000):
        unmounted.lookup(number)
    assert Id.compared < 20 * len(ids)


def test_a_path_that_is_too_long_ends_with_a_whole_component(
    tree: CgroupTree, paths: CgroupPaths
) -> None:
    """What is beyond belongs to whoever has the rest of the path."""
    cgroup = tree.make("/docker" + "/x".ljust(200, "y") * 7)
    path = paths.lookup(cgroup.id)
    assert path is not None
    assert len(path) <= MAX_PATH
    assert cgroup.path.startswith(f"{path}/")
