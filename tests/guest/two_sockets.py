"""What a host of one socket cannot show: time and energy kept apart by socket."""

import os
import time
from pathlib import Path

import pytest
from test_run_rapl import machine, metered, process_j, window_s
from trackers import collect, cpu_ns, identities, joined, of, opened, settled, unbalanced_ns
from workers import worker

from kepler_ebpf.host.topology import Topology

GIVE_UP_S = 30.0
LAST = 3
"""A CPU of the second socket."""
CPUS_PER_SOCKET = 2
J = 1e6
PACKAGES_UJ = {"intel-rapl:0": 10 * J, "intel-rapl:1": 40 * J}


def set_online(cpu: int, *, online: bool) -> None:
    """Give the kernel a CPU or take it away."""
    Path(f"/sys/devices/system/cpu/cpu{cpu}/online").write_text(str(int(online)))


@pytest.fixture
def unplugged():
    """Take CPUs away by number; they are given back in the end."""
    gone = []

    def unplug(*cpus: int) -> None:
        for cpu in cpus:
            set_online(cpu, online=False)
            gone.append(cpu)

    yield unplug
    for cpu in gone:
        set_online(cpu, online=True)


# --- time -----------------------------------------------------------------------------------------


def test_sockets_are_found():
    """Two sockets of two CPUs, in the kernel's order."""
    with Topology() as topology:
        assert topology.socket_of[: LAST + 1] == (0, 0, 1, 1)


def test_time_is_charged_to_the_socket_it_was_used_on(tracker, start):
    """A process that is kept on one CPU has all its time on that CPU's socket."""
    load = start("burn_twice")
    load.pin(LAST)
    settled(tracker)
    load.step()
    usage = settled(tracker)
    mine = of(usage.tasks, tgid=load.pid)
    assert set(mine["socket"]) == {1}
    assert 0 < cpu_ns(mine) <= usage.sockets.busy_ns[1]


def test_process_on_both_sockets_is_one_process(tracker, start):
    """A process that moves within an interval has a record for each socket."""
    load = start("burn_twice")
    load.pin(0)
    settled(tracker)
    load.step()
    load.pin(LAST)
    load.step()
    mine = of(settled(tracker).tasks, tgid=load.pid)
    assert set(mine["socket"]) == {0, 1}
    assert len(identities(mine)) == 1


def test_each_socket_has_its_own_window(tracker):
    """The CPU time that existed is the interval's length times each socket's CPUs."""
    tracker.interval()
    time.sleep(0.2)
    usage = tracker.interval()
    length_ns = usage.end_ns - usage.start_ns
    for window_ns in usage.sockets.window_ns:
        assert window_ns == pytest.approx(CPUS_PER_SOCKET * length_ns, rel=0.01)


# --- CPUs that come and go --------------------------------------------------------------------


def test_laws_hold_while_cpus_come_and_go(tracker, start, unplugged):
    """A busy CPU is taken away and given back, again and again, and no law is broken."""
    for _ in range(2):
        start("spin").go()
    tracker.interval()
    usages = []
    for _ in range(3):
        unplugged(LAST)
        usages += collect(tracker, 0.1)
        set_online(LAST, online=True)
        usages += collect(tracker, 0.1)
    assert not any(unbalanced_ns(usage).any() for usage in usages)
    assert all(usage.sockets.window_ns.sum() == usage.wall_ns for usage in usages)


def test_socket_without_cpus_has_no_window(tracker, unplugged):
    """When the whole second socket is gone there is no time there, and the first is as before."""
    unplugged(LAST - 1, LAST)
    tracker.interval()
    time.sleep(0.1)
    usage = tracker.interval()
    length_ns = usage.end_ns - usage.start_ns
    assert usage.sockets.window_ns.tolist() == [
        pytest.approx(CPUS_PER_SOCKET * length_ns, rel=0.01),
        0,
    ]


def test_what_loses_its_cpu_is_charged_where_it_goes_on(tracker, start, unplugged):
    """A process that spins on a CPU that is taken away goes on elsewhere, all of it charged."""
    spinner = start("spin")
    spinner.pin(LAST)
    spinner.go()
    tracker.interval()
    began_ns = spinner.clock_ns()
    unplugged(LAST - 1, LAST)
    used_ns = spinner.clock_ns() - began_ns
    usages = collect(tracker, 0.2)
    mine = of(joined(usages), tgid=spinner.pid)
    assert set(of(usages[-1].tasks, tgid=spinner.pid)["socket"]) == {0}
    assert cpu_ns(mine) > used_ns


def test_cpu_that_was_away_is_sampled_again(start, unplugged):
    """A CPU that goes and comes between two looks at the timers has one that fires."""
    with opened("core", with_jobs=True, samples_bytes=1 << 20) as tracker:
        assert tracker.samples
        tracker.samples.start(499, everything=True)
        tracker.samples.follow_cpus()
        unplugged(LAST)
        set_online(LAST, online=True)
        spinner = start("spin")
        spinner.pin(LAST)
        spinner.go()
        until_s, pids = time.monotonic() + GIVE_UP_S, {0}
        while spinner.pid not in pids:
            assert time.monotonic() < until_s
            time.sleep(0.1)
            tracker.samples.follow_cpus()
            pids |= set(tracker.samples.take().heads["pid"].tolist())


# --- energy -----------------------------------------------------------------------------------


def test_each_socket_pays_for_itself(tmp_path):
    """Processes on two sockets get, each, a share of what their own socket drew."""
    tree = machine(tmp_path / "sys", "dual_socket")
    with worker(tmp_path, "on-first") as first, worker(tmp_path, "on-second") as second:
        os.sched_setaffinity(first.pid, {0})
        os.sched_setaffinity(second.pid, {LAST})
        with metered(tmp_path, tree) as run:
            before = run.step()
            used_s = {"on-first": first.spin(), "on-second": second.spin()}
            tree.advance(PACKAGES_UJ)
            after = run.step()
    socket_s = window_s(before, after) / len(PACKAGES_UJ)
    for (comm, spent_s), drawn_uj in zip(used_s.items(), PACKAGES_UJ.values(), strict=True):
        given_j = process_j(after, comm) - process_j(before, comm)
        assert given_j == pytest.approx(drawn_uj / J * spent_s / socket_s, rel=0.05)
