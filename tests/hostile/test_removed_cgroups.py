"""More cgroups that are removed at a time than a map of events has room for, beside a `run`."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from running import running
from workers import worker

MAP_ENTRIES = 4_096
CGROUPS = 2 * MAP_ENTRIES
ROUNDS = 2


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def test_storm_of_removals(tmp_path: Path, tree: CgroupTree) -> None:
    """The map is full while it is read, and fuller afterwards: the run goes on, and names too."""
    base = tree.make("/storm").directory
    with running(tmp_path, "--meter", "fake", "--interval", "1s") as run:
        for _ in range(ROUNDS):
            directories = [base / str(number) for number in range(CGROUPS)]
            for directory in directories:
                directory.mkdir()
            before = run.scrape()

            def remove(some: list[Path]) -> None:
                for directory in some:
                    directory.rmdir()

            threads = [
                threading.Thread(target=remove, args=(directories[half::2],)) for half in (0, 1)
            ]
            for thread in threads:
                thread.start()
            # Each new cgroup has the events read, in the middle of the storm.
            number = 0
            while any(thread.is_alive() for thread in threads):
                os.rmdir(tree.make(f"/bell-{number}").directory)  # noqa: PTH106
                number += 1
            for thread in threads:
                thread.join()
            page = run.until(lambda page, n=before.intervals: page.intervals > n + 2)  # type: ignore[misc]
            assert page.total("kepler_ebpf_failed_intervals_total") == 0
        with worker(tmp_path, "after") as after:
            tree.make("/docker/" + "ab" * 32).enter(after.pid)
            after.spin()
            run.until(
                lambda page: page.find("kepler_container_cpu_joules_total", container_id="ab" * 32)
            )
        assert run.end() == 0
    assert "cannot drain" not in run.log
