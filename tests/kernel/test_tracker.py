"""The laws of the tracker on real load: nothing is lost, nothing is counted twice."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trackers import (
    HIERARCHIES,
    Load,
    collect,
    cpu_ns,
    joined,
    lost_ns,
    of,
    settled,
    unbalanced_ns,
)
from truth import TICKS_NS, Stopwatch, init_ns

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.kernel.libbpf import enable_stats

pytest_plugins = ["kernel_fixtures"]

LAG_NS = 2_000_000
"""A task that is interrupted may be charged so much after it last read its own clock."""


@pytest.fixture(scope="session")
def storm_usages(tracker):
    """Take intervals for a second under a fork storm beside a spinning process."""
    loads = [Load("spin"), Load("fork_storm")]
    tracker.interval()
    for load in loads:
        load.go()
    usages = collect(tracker, 1.0, every_s=0.05)
    for load in loads:
        load.close()
    return usages


def test_tasks_and_lost_time_are_the_busy_time(storm_usages):
    """The sum of all tasks and the lost time is the busy time of each socket to the nanosecond."""
    assert [unbalanced_ns(usage).tolist() for usage in storm_usages] == [
        [0] * len(usage.sockets.busy_ns) for usage in storm_usages
    ]


def test_busy_and_idle_are_the_window(storm_usages):
    """Busy and idle make up the CPU time that existed, and that is what passed by the clock."""
    for usage in storm_usages:
        sockets = usage.sockets
        np.testing.assert_array_equal(sockets.busy_ns + sockets.idle_ns, sockets.window_ns)
        assert sockets.window_ns.sum() == usage.wall_ns


def test_intervals_follow_without_a_gap(storm_usages):
    """Each interval starts where the one before it ended."""
    ends = [usage.end_ns for usage in storm_usages]
    starts = [usage.start_ns for usage in storm_usages]
    assert starts[1:] == ends[:-1]


def test_lost_time_is_little(tracker, start):
    """Less than a thousandth of the CPU time has no owner.

    Some virtual machines hide PID 1 from tracing: at most its time is lost as well.
    """
    for load in [start("spin"), start("fork_storm")]:
        load.go()
    tracker.interval()
    before_ns = init_ns()
    usages = collect(tracker, 1.0, every_s=0.05)
    hidden_ns = init_ns() - before_ns
    assert lost_ns(*usages) < 0.001 * sum(usage.wall_ns for usage in usages) + hidden_ns


def test_every_record_has_used_time(storm_usages):
    """Only tasks that ran are drained, or the end of a process; and none twice."""
    for usage in storm_usages:
        keys = usage.tasks[["start_ns", "cgroup_id", "pid", "socket"]]
        assert len(np.unique(keys)) == len(keys)
        has_ended = (usage.tasks["flags"] & FLAG_ENDED) != 0
        assert (has_ended | (usage.tasks["cpu_ns"] > 0)).all()


def test_window_is_wall_clock_time(tracker):
    """An interval begins where the one before was closed, and ends where it is closed itself."""
    first_closing, _ = told_times(tracker)
    second_closing, usage = told_times(tracker)
    assert first_closing[0] <= usage.start_ns <= first_closing[1]
    assert second_closing[0] <= usage.end_ns <= second_closing[1]


def told_times(tracker):
    """Close an interval, and tell by the clock between which times."""
    before_ns, usage, after_ns = time.monotonic_ns(), tracker.interval(), time.monotonic_ns()
    return (before_ns, after_ns), usage


def test_spinning_process_is_charged_in_every_interval(tracker, start, tmp_path):
    """A task that never blocks gets in each 100 ms interval what it says it used."""
    path = tmp_path / "clock"
    path.write_bytes(bytes(8))
    spinner = start("spin_and_tell", path)
    spinner.go()
    while not told_ns(path):
        time.sleep(0.01)
    before_ns, _, after_ns = told_ns(path), tracker.interval(), told_ns(path)
    for _ in range(10):
        time.sleep(0.1)
        stopwatch, last_before_ns, last_after_ns = Stopwatch(), before_ns, after_ns
        before_ns, usage, after_ns = told_ns(path), tracker.interval(), told_ns(path)
        charged_ns = cpu_ns(of(usage.tasks, tgid=spinner.pid))
        assert charged_ns >= before_ns - last_after_ns - lost_ns(usage) - LAG_NS
        slack_ns = LAG_NS + TICKS_NS + stopwatch.stolen_ns
        assert charged_ns <= after_ns - last_before_ns + slack_ns


def told_ns(path: Path) -> int:
    """Read what a spinner tells."""
    return int.from_bytes(path.read_bytes(), sys.byteorder)


def test_woken_task_is_charged_from_its_wake_up_on(tracker, start):
    """A task that preempts another thousands of times a second: each has what the kernel counts.

    The way from the interrupt that wakes it to the switch is its own, not the other's.
    """
    spinner, waker = start("spin"), start("wake_often")
    for load in (spinner, waker):
        load.pin(0)
        load.go()
    os.setpriority(os.PRIO_PROCESS, spinner.pid, 10)
    tracker.interval()
    before_ns = {load: load.clock_ns() for load in (spinner, waker)}
    time.sleep(1)
    used_ns = {load: load.clock_ns() - before_ns[load] for load in before_ns}
    usage = tracker.interval()
    for load, least_ns in used_ns.items():
        charged_ns = cpu_ns(of(usage.tasks, tgid=load.pid))
        assert charged_ns >= 0.97 * least_ns - lost_ns(usage)


@pytest.mark.parametrize("hierarchy", HIERARCHIES[:1])
def test_fork_storm_is_charged_to_its_cgroup(tracker, start, make_cgroup, hierarchy):
    """What three hundred short commands used is found in their cgroup, nearly all of it."""
    cgroup, storm, spinner = make_cgroup(hierarchy), start("fork_storm"), start("spin")
    for load in (storm, spinner):
        load.pin(0)  # beside a spinner: a CPU that is never idle is not woken
    spinner.go()
    cgroup.take(storm.pid)
    tracker.interval()
    stopwatch, before_ns = Stopwatch(), cgroup.cpu_ns
    storm.step()
    usage = settled(tracker)
    truth = stopwatch.truth(cgroup.cpu_ns - before_ns)
    charged_ns = cpu_ns(of(usage.tasks, cgroup_id=cgroup.id))
    assert truth.is_met_by(charged_ns, within=0.005, lost_ns=lost_ns(usage))


def test_many_short_intervals_lose_nothing(tracker, start):
    """At 10 ms the laws hold in every interval."""
    spinner = start("spin")
    tracker.interval()
    spinner.go()
    usages = collect(tracker, 2.0, every_s=0.01)
    assert not any(unbalanced_ns(usage).any() for usage in usages)
    assert all(usage.sockets.window_ns.sum() == usage.wall_ns for usage in usages)


def test_interval_closes_at_a_switch_or_a_rotation_once(tracker, start):
    """What a spinning process is charged over many intervals adds up to its CPU clock."""
    spinner = start("spin")
    tracker.interval()
    stopwatch, before_ns = Stopwatch(), spinner.clock_ns()
    spinner.go()
    usages = collect(tracker, 1.0, every_s=0.01)
    truth = stopwatch.truth(spinner.clock_ns() - before_ns)
    charged_ns = cpu_ns(of(joined(usages), tgid=spinner.pid))
    assert truth.is_met_by(charged_ns, lost_ns=lost_ns(*usages))


def test_programs_have_figures_while_statistics_are_on(tracker):
    """The runs of all of them are counted, and the time they take."""
    before = tracker.program_stats
    descriptor = enable_stats()
    time.sleep(0.02)  # to sleep is to switch
    os.close(descriptor)
    after = tracker.program_stats
    assert after.run_count > before.run_count
    assert after.run_ns > before.run_ns
    assert after.missed_count >= before.missed_count
