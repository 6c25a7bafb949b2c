"""A user starts threads as fast as the host can: it blurs nobody but that user."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cgroup_tree import Cgroup, cgroup_tree, hierarchies
from running import Page, Run, assert_conserved, running
from truth import Stopwatch
from workers import worker

SOURCE = Path(__file__).with_name("thread_storm.c")
NOBODY = 65534
STORM, OTHERS = ("5" + number + 62 * "0" for number in "12")
"""Ids of the containers that the storm and the other processes are in."""

SLEEPERS = 300
FEW_INTERVALS = 4
ARGUMENTS = ("--meter", "fake", "--interval", "250ms", "--bpf-map-entries", "1024")
ALL_ENDED = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"
SPINNER_LOOPS = 100_000_000
"""More than there is time for."""

SECONDS = "kepler_process_cpu_seconds_total"
WATTS = "kepler_process_cpu_watts"


@contextmanager
def thread_storm(cgroup: Cgroup) -> Iterator[None]:
    """Let a user start some ten thousand threads a second in *cgroup*."""
    # Not below pytest's folders: these are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        command = ["clang", "-pthread", "-o", f"{folder}/storm", str(SOURCE)]
        subprocess.run(command, check=True)
        process = subprocess.Popen([f"{folder}/storm"], user=NOBODY, group=NOBODY, extra_groups=[])
        cgroup.enter(process.pid)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def sleepers(folder: Path, cgroup: Cgroup) -> Iterator[list[int]]:
    """Give the pids of processes of *cgroup* that sleep."""
    shutil.copy("/bin/sleep", folder / "sleeper")
    script = f"i=0; while [ $i -lt {SLEEPERS} ]; do {folder}/sleeper 1000 & i=$((i+1)); done; wait"
    enter = f"echo 0 > {cgroup.directory}/cgroup.procs; "
    with subprocess.Popen(["sh", "-c", enter + script]) as shell:
        children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")
        while len(pids := [int(pid) for pid in children.read_text().split()]) < SLEEPERS:
            time.sleep(0.01)
        try:
            yield pids
        finally:
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def running_sleepers(page: Page) -> int:
    """Count the sleepers that are listed as running."""
    pids = {each.labels["pid"] for each in page.find(WATTS, comm="sleeper", state="running")}
    return len(pids)


def few_intervals_later(run: Run) -> Page:
    """Return a page of some intervals later than now."""
    now = run.scrape().intervals
    return run.until(lambda page: page.intervals >= now + FEW_INTERVALS)


@pytest.fixture
def cgroups() -> Iterator[tuple[Cgroup, Cgroup]]:
    """Give the cgroup of the storm and that of the others."""
    with cgroup_tree(hierarchies()[0]) as tree:
        yield tree.make(f"/docker/{STORM}"), tree.make(f"/docker/{OTHERS}")


def test_thread_storm_blurs_its_own_cgroup_only(
    tmp_path: Path, cgroups: tuple[Cgroup, Cgroup], stopwatch: Stopwatch
) -> None:
    """Who ends meanwhile is seen to end, and what has no record is nearly all the storm's.

    That of the others is among the [overflow] of their own container, so that its sum is right.
    """
    storm, others = cgroups
    with (
        running(tmp_path, *ARGUMENTS, config=ALL_ENDED) as run,
        sleepers(tmp_path, others) as pids,
        worker(tmp_path, "spinner") as spinner,
    ):
        others.enter(spinner.pid)
        run.until(lambda page: running_sleepers(page) == SLEEPERS)
        before_s = spinner.cpu_s
        spinner.start(SPINNER_LOOPS)
        with thread_storm(storm):
            few_intervals_later(run)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
            few_intervals_later(run)
            spun_s = spinner.cpu_s - before_s
            page = run.until(lambda page: running_sleepers(page) == 0)
            later_s = spinner.cpu_s - before_s
        used_s, end = others.cpu_s, few_intervals_later(run)
        later_used_s = others.cpu_s
    sleeping = end.find(SECONDS, comm="sleeper")
    untracked_s = {
        name: end.total(SECONDS, comm="[overflow]", container_id=name) for name in (STORM, OTHERS)
    }
    assert {each.labels["pid"] for each in sleeping} == {str(pid) for pid in pids}
    assert untracked_s[STORM] > 0
    assert untracked_s[OTHERS] <= 0.1 * untracked_s[STORM]
    spinning_s = page.total(SECONDS, comm="spinner")
    assert stopwatch.agree(spinning_s, spun_s, later_s)
    counted_s = end.total("kepler_container_cpu_seconds_total", container_id=OTHERS)
    assert stopwatch.agree(counted_s, used_s, later_used_s)
    assert_conserved(end)
