"""More cgroups that are removed at a time than a map of events has room for, beside a `run`."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from running import running
from workers import worker

MAP_ENTRIES = 4_096
SURPLUS = 100
ROUNDS = 3


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def remove(directories: list[Path]) -> None:
    """Remove empty cgroups."""
    for directory in directories:
        directory.rmdir()


def test_storm_of_removals(tmp_path: Path, tree: CgroupTree) -> None:
    """The map of events is full when it is read, and filled meanwhile: the run goes on."""
    base = tree.make("/storm").directory
    with running(tmp_path, "--meter", "fake", "--interval", "30s") as run:
        for number in range(ROUNDS):
            directories = [base / str(cgroup) for cgroup in range(2 * MAP_ENTRIES)]
            for directory in directories:
                directory.mkdir()
            run.scrape()
            remove(directories[: MAP_ENTRIES + SURPLUS])
            thread = threading.Thread(target=remove, args=(directories[MAP_ENTRIES + SURPLUS :],))
            thread.start()
            # A new cgroup has the events read, those of the storm too.
            bell = tree.make(f"/bell-{number}")
            thread.join()
            bell.remove()
            page = run.scrape()
            assert page.total("kepler_ebpf_failed_intervals_total") == 0
        with worker(tmp_path, "after") as after:
            tree.make("/docker/" + "ab" * 32).enter(after.pid)
            after.spin()
            run.until(
                lambda page: page.find("kepler_container_cpu_joules_total", container_id="ab" * 32)
            )
        assert run.end() == 0
    assert "cannot drain" not in run.log
