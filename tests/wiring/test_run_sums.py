"""What adds up on every page of a live `run`, while short commands come and go."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cgroup_tree import Cgroup, cgroup_tree, hierarchies
from running import Page, assert_conserved, running

CONTAINER_ID = "fedcba9876543210" * 4
PAGES = 12
SHORT_COMMANDS = "read _; while :; do /bin/true; /bin/true & done"


@contextmanager
def storm(cgroup: Cgroup) -> Iterator[None]:
    """Start one short command after the other in a cgroup."""
    with subprocess.Popen(
        ["/bin/sh", "-c", SHORT_COMMANDS], stdin=subprocess.PIPE, text=True
    ) as shell:
        cgroup.enter(shell.pid)
        assert shell.stdin
        shell.stdin.write("\n")
        shell.stdin.flush()
        try:
            yield
        finally:
            shell.kill()


def assert_container_adds_up(page: Page) -> None:
    """Hold the rows of a container's processes against the container, in every zone."""
    for zone in page.zones():
        labels = {"zone": zone, "container_id": CONTAINER_ID}
        processes_j = page.total("kepler_process_cpu_joules_total", **labels)
        container_j = page.total("kepler_container_cpu_joules_total", **labels)
        assert processes_j == pytest.approx(container_j, rel=1e-9)


def test_rows_of_processes_add_up_in_a_storm_of_short_commands(tmp_path: Path) -> None:
    """To the node's active energy, and to their container, whether few or most are listed."""
    config = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: 20}\n"
    arguments = ("--meter", "fake", "--interval", "100ms", "--terminated-retention", "1s")
    with (
        running(tmp_path, *arguments, config=config) as run,
        cgroup_tree(hierarchies()[0]) as tree,
        storm(tree.make(f"/docker/{CONTAINER_ID}")),
    ):
        name = "kepler_container_cpu_joules_total"
        run.until(lambda page: page.total(name, container_id=CONTAINER_ID) > 0)
        seen = 0
        for _ in range(PAGES):
            page = run.until(lambda page, seen=seen: page.intervals > seen)  # type: ignore[misc]
            seen = page.intervals
            assert_conserved(page)
            assert_container_adds_up(page)
        rows = page.find("kepler_process_cpu_joules_total", container_id=CONTAINER_ID)
        assert {"[retired]", "[others]"} <= {row.labels["comm"] for row in rows}
