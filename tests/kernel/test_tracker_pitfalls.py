"""What tasks can do besides running and sleeping, and that the tracker follows it."""

import ctypes
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loads import SLICE_S
from trackers import (
    ENTRIES,
    HIERARCHIES,
    SETTLE_S,
    Tracker,
    collect,
    cpu_ns,
    identities,
    joined,
    loaded,
    lost_ns,
    of,
    opened,
    settled,
    unbalanced_ns,
)
from truth import Stopwatch

from kepler_ebpf.errors import ReadError
from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import tracker as tracker_module
from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.kernel.libbpf import TestRun, library
from kepler_ebpf.kernel.programs import CGROUP_ENTRIES, Programs
from kepler_ebpf.kernel.slots import Boundary, Figures, Slots
from kepler_ebpf.model.usage import OVERFLOW_COMM

pytest_plugins = ["kernel_fixtures"]

FEW = 64
"""Entries of a task map that is soon full."""
SHARED = 256
"""Entries of one of which a fork storm leaves a good part to others."""
SLICE_NS = SLICE_S * 1e9
ATTEMPTS = 4
"""A task that the host hides may run just then: now and then, and not so often in a row."""
KTHREADD = 2
STAT_PPID, STAT_START = 1, 19
"""Fields 4 and 22 of /proc/PID/stat, counted after the comm's closing bracket."""
CPU_1 = Path("/sys/devices/system/cpu/cpu1/online")


@contextmanager
def staying_on(cpu: int) -> Iterator[None]:
    """Run the test itself on one CPU only."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def stat_field(task: str, field: int) -> int:
    """Read a number from /proc/TASK/stat."""
    return int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[field])


def ticks(start_ns: int) -> int:
    """Turn a start on the boot clock into what /proc/PID/stat says."""
    return int(start_ns) * os.sysconf("SC_CLK_TCK") // 1_000_000_000


def is_ended(tasks) -> bool:
    """Tell whether any record says that its process has ended."""
    return bool((tasks["flags"] & FLAG_ENDED).any())


# --- ends ---------------------------------------------------------------------------------------


def test_last_slice_of_an_ended_process_is_charged(tracker, start):
    """A process that burns and exits is charged all its time, and is marked as ended."""
    tracker.interval()
    load = start("burn_once")
    load.go()
    truth = load.end()
    usage = settled(tracker)
    mine = of(usage.tasks, tgid=load.pid)
    assert truth.is_met_by(cpu_ns(mine), lost_ns=lost_ns(usage))
    assert is_ended(mine)


def test_end_of_a_thread_is_not_the_end_of_its_process(tracker, start):
    """A process is marked as ended when its last thread exits, not when another one does."""
    load = start("thread_then_exit")
    tracker.interval()
    load.step()
    between = of(settled(tracker).tasks, tgid=load.pid)
    load.go()
    load.end()
    after = of(settled(tracker).tasks, tgid=load.pid)
    assert len(set(between["pid"])) == 2
    assert (is_ended(between), is_ended(after)) == (False, True)


def test_leader_that_dies_first_leaves_its_identity(tracker, start):
    """A process whose first thread is gone stays the same process until the last one ends."""
    load = start("leader_dies_first")
    started = stat_field(str(load.pid), STAT_START)
    tracker.interval()
    load.step()
    load.step()
    between = of(settled(tracker).tasks, tgid=load.pid)
    load.go()
    load.end()
    after = of(settled(tracker).tasks, tgid=load.pid)
    ((tgid, start_ns),) = identities(between)
    assert (tgid, ticks(start_ns)) == (load.pid, started)
    assert identities(after) == identities(between)
    assert (is_ended(between), is_ended(after)) == (False, True)


# --- exec ---------------------------------------------------------------------------------------


def test_command_run_within_one_interval_has_its_own_comm(tracker, start):
    """A process that was forked, called exec and ended between two looks has the new comm."""
    load = start("run_true")
    tracker.interval()
    child = int(load.step())
    mine = of(settled(tracker).tasks, tgid=child)
    assert set(mine["comm"]) == set(mine["process_comm"]) == {b"true"}
    assert is_ended(mine)


def test_exec_changes_exec_id_and_nothing_else(tracker, start):
    """After exec the process is the same, with another exec_id."""
    load = start("exec_burner")
    load.pin(0)  # what it ran before on another socket keeps the earlier id
    tracker.interval()
    load.step()
    before = of(tracker.interval().tasks, tgid=load.pid)
    load.step()
    load.go()
    load.end()
    after = of(settled(tracker).tasks, tgid=load.pid)
    assert identities(before) == identities(after)
    assert set(before["exec_id"]).isdisjoint(after["exec_id"])


def test_exec_from_another_thread_loses_no_time(tracker, start):
    """A thread that calls exec takes the leader's pid in mid-slice; the slice is still charged."""
    tracker.interval()
    load = start("exec_from_thread")
    load.go()
    truth = load.end()
    usage = settled(tracker)
    mine = of(usage.tasks, tgid=load.pid)
    assert len(identities(mine)) == 1
    assert truth.is_met_by(cpu_ns(mine), lost_ns=lost_ns(usage))


# --- who a task is ------------------------------------------------------------------------------


def test_run_that_began_unseen_is_charged_by_the_scheduler(loader_name, start):
    """Even of a task whose run the scheduler has begun anew, as it does where one is reniced."""

    def is_whole(programs: Programs, tracker: Tracker) -> bool:
        load = start("burn_twice")
        tracker.interval()
        stopwatch, before_ns = Stopwatch(), load.clock_ns()
        load.pin(max(os.sched_getaffinity(0)))
        os.setpriority(os.PRIO_PROCESS, load.pid, -20)
        load.step()
        time.sleep(SETTLE_S)
        with staying_on(min(os.sched_getaffinity(0))):
            programs.detach()
            load.go()
            time.sleep(SLICE_S / 2)
            os.setpriority(os.PRIO_PROCESS, load.pid, -19)
            programs.attach()
            load.acknowledge()
        mine = of(settled(tracker).tasks, tgid=load.pid)
        return stopwatch.truth(load.clock_ns() - before_ns).is_met_by(cpu_ns(mine))

    # To attach where another is attached takes no grace period.
    with opened(loader_name), loaded(loader_name) as (programs, topology):
        tracker = Tracker(programs, topology, ENTRIES)
        tracker.start()
        # Whoever runs in between takes the end of it along unseen.
        assert any(is_whole(programs, tracker) for _ in range(ATTEMPTS))
        tracker.close()


def test_start_is_the_one_in_proc(tracker, start):
    """The starts of threads and processes are those that /proc/PID/stat gives in ticks."""
    load = start("burn_twice")
    tracker.interval()
    load.step()
    known = 0
    for task in tracker.interval().tasks:
        try:
            thread = stat_field(f"{task['tgid']}/task/{task['pid']}", STAT_START)
            process = stat_field(str(task["tgid"]), STAT_START)
        except OSError:
            continue  # has ended since
        known += 1
        assert ticks(task["start_ns"]) == thread
        assert ticks(task["process_start_ns"]) == process
    assert known >= 2


def test_parent_is_the_one_in_proc(tracker, start):
    """The parent is told as a process, in the host's pids."""
    load = start("burn_twice")
    tracker.interval()
    load.step()
    (mine,) = of(tracker.interval().tasks, tgid=load.pid)
    assert mine["parent_tgid"] == stat_field(str(load.pid), STAT_PPID) == os.getpid()


def test_reused_pid_is_another_process(tracker, start):
    """Two processes that have one pid, both within one interval, are charged apart."""
    load = start("same_pid_twice")
    tracker.interval()
    first, second = map(int, load.step().split())
    assert first == second
    usage = settled(tracker)
    mine = of(usage.tasks, tgid=first)
    assert len(identities(mine)) == 2
    least_ns = 0.99 * SLICE_NS - lost_ns(usage)
    for _, start_ns in identities(mine):
        assert cpu_ns(of(mine, process_start_ns=start_ns)) >= least_ns


def test_kernel_threads_are_consumers(tracker, start):
    """What kernel threads use is told by thread, as children of kthreadd."""
    storm = start("fork_storm")
    tracker.interval()
    storm.step()
    kernel = of(joined(collect(tracker, 0.5)), parent_tgid=KTHREADD)
    assert len(kernel)
    assert (kernel["tgid"] == kernel["pid"]).all()
    assert cpu_ns(kernel) > 0


def test_sampler_is_a_consumer_and_knows_itself(tracker):
    """The process that takes the intervals is in them, under the identity it is told."""
    tracker.interval()
    tasks = tracker.interval().tasks
    tgid, start_ns = tracker.self_process
    assert (tgid, ticks(start_ns)) == (os.getpid(), stat_field("self", STAT_START))
    assert cpu_ns(of(tasks, tgid=tgid, process_start_ns=start_ns)) > 0


# --- cgroups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_migration_within_an_interval_splits_the_time(loader_name, start, make_cgroup, hierarchy):
    """A process moved between two slices has a record in each of its two cgroups."""
    with opened(loader_name, hierarchy=hierarchy) as tracker:
        before, after, load = make_cgroup(hierarchy), make_cgroup(hierarchy), start("burn_twice")
        before.take(load.pid)
        tracker.interval()
        load.step()
        after.take(load.pid)
        load.step()
        usage = tracker.interval()
        mine = of(usage.tasks, tgid=load.pid)
        assert set(mine["cgroup_id"]) == {before.id, after.id}
        assert len(identities(mine)) == 1
        assert not unbalanced_ns(usage).any()


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_task_that_moves_itself_leaves_what_it_ran(loader_name, start, make_cgroup, hierarchy):
    """What it ran before is its old cgroup's, though it was not switched out in between."""

    def is_split(tracker: Tracker) -> bool:
        old, new = make_cgroup(hierarchy), make_cgroup(hierarchy)
        load = start("move_itself", new.directory / "cgroup.procs")
        old.take(load.pid)
        tracker.interval()
        stopwatch = Stopwatch()
        went_ns, there_ns, used_ns = map(int, load.step().split())
        usage = tracker.interval()
        assert not unbalanced_ns(usage).any()
        mine, lost = of(usage.tasks, tgid=load.pid), lost_ns(usage)
        left, taken = (cpu_ns(of(mine, cgroup_id=cgroup.id)) for cgroup in (old, new))
        taken_truth = stopwatch.truth(used_ns - there_ns, used_ns - went_ns)
        return stopwatch.truth(went_ns, there_ns).is_met_by(
            left, lost_ns=lost
        ) and taken_truth.is_met_by(taken, lost_ns=lost)

    with opened(loader_name, hierarchy=hierarchy) as tracker:
        assert any(is_split(tracker) for _ in range(ATTEMPTS))


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
@pytest.mark.parametrize("thread", ["first", "second"])
def test_task_that_is_moved_leaves_what_it_ran(loader_name, start, make_cgroup, hierarchy, thread):
    """It runs on another CPU meanwhile, whichever thread of the process that is moved it is."""

    def is_split(tracker: Tracker) -> bool:
        old, new = make_cgroup(hierarchy), make_cgroup(hierarchy)
        load = start("spin_unpreempted", thread)
        old.take(load.pid)
        tracker.interval()
        stopwatch, before_ns = Stopwatch(), load.clock_ns()
        load.go()
        time.sleep(0.1)
        went_ns = load.clock_ns() - before_ns
        new.take(load.pid)
        there_ns = load.clock_ns() - before_ns
        time.sleep(0.1)
        usage, later = tracker.interval(), settled(tracker)
        load.close()
        assert not unbalanced_ns(usage).any()
        assert set(of(later.tasks, tgid=load.pid)["cgroup_id"]) == {new.id}
        left_ns = cpu_ns(of(usage.tasks, tgid=load.pid, cgroup_id=old.id))
        return stopwatch.truth(went_ns, there_ns).is_met_by(left_ns, lost_ns=lost_ns(usage))

    with opened(loader_name, hierarchy=hierarchy) as tracker:
        assert any(is_split(tracker) for _ in range(ATTEMPTS))


def test_task_in_the_v1_root_is_told_by_its_v2_cgroup(tracker, start, make_cgroup):
    """Where a process is in the root of the v1 controller, v2 says where it belongs."""
    cgroup, load = make_cgroup("v2"), start("burn_twice")
    cgroup.take(load.pid)
    tracker.interval()
    load.step()
    assert set(of(tracker.interval().tasks, tgid=load.pid)["cgroup_id"]) == {cgroup.id}


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_cgroup_made_and_removed_within_one_interval_has_its_path(tracker, make_cgroup, hierarchy):
    """What is gone before anyone could look it up is named by the kernel's own events."""
    tracker.cgroup_events()
    cgroup = make_cgroup(hierarchy)
    cgroup.remove()
    (event,) = [event for event in tracker.cgroup_events() if event.cgroup_id == cgroup.id]
    assert (event.path, event.removed) == (cgroup.name, True)


def test_path_after_a_longer_one_is_whole(tracker, make_cgroup):
    """The buffer of a longer path before it leaves no trace in the next one."""
    tracker.cgroup_events()
    with staying_on(min(os.sched_getaffinity(0))):
        made = [make_cgroup(HIERARCHIES[0], "-" + "x" * 50), make_cgroup(HIERARCHIES[0])]
    paths = {event.cgroup_id: event.path for event in tracker.cgroup_events()}
    assert [paths[cgroup.id] for cgroup in made] == [cgroup.name for cgroup in made]


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_new_cgroup_is_told_once(tracker, make_cgroup, hierarchy):
    """A cgroup that was made is one event, and none from then on."""
    tracker.cgroup_events()
    cgroup = make_cgroup(hierarchy)
    events = [event for event in tracker.cgroup_events() if event.cgroup_id == cgroup.id]
    again = [event for event in tracker.cgroup_events() if event.cgroup_id == cgroup.id]
    assert [(event.path, event.removed) for event in events] == [(cgroup.name, False)]
    assert again == []
    assert tracker.stats.cgroup_events_lost == 0


# --- full maps ----------------------------------------------------------------------------------


def test_full_task_map_gives_the_time_to_the_cgroup(loader_name, start, make_cgroup):
    """Tasks that find no room are overflow records of their cgroup, and no time is lost."""
    cgroup, storm, spinner = make_cgroup(HIERARCHIES[0]), start("fork_storm"), start("spin")
    for each in (storm, spinner):
        each.pin(0)  # beside a spinner: a CPU that is never idle is not woken
    spinner.go()
    cgroup.take(storm.pid)
    with opened(loader_name, FEW) as tracker:
        tracker.interval()
        stopwatch, before_ns = Stopwatch(), cgroup.cpu_ns
        storm.step()
        usage = settled(tracker)
        mine = of(usage.tasks, cgroup_id=cgroup.id)
        overflow = of(mine, pid=0)
        names = {*overflow["comm"], *overflow["process_comm"]}
        assert names == {OVERFLOW_COMM.encode()}
        truth = stopwatch.truth(cgroup.cpu_ns - before_ns)
        assert truth.is_met_by(cpu_ns(mine), lost_ns=lost_ns(usage))
        # What this kernel hides is lost, and nothing else.
        assert tracker.stats.lost_ns == tracker.stats.hidden_ns
        assert not unbalanced_ns(usage).any()
        assert 0.9 < tracker.stats.map_fill_ratio <= 1
        assert tracker.stats.overflow_ns >= cpu_ns(overflow) > 0


def test_storm_leaves_room_to_another_cgroup(loader_name, start, make_cgroup):
    """Who comes when a storm has found no room any more has a record, in another cgroup."""
    crowded, quiet = make_cgroup(HIERARCHIES[0]), make_cgroup(HIERARCHIES[0])
    storm, late, other = start("fork_storm"), start("burn_twice"), start("burn_twice")
    crowded.take(storm.pid)
    crowded.take(late.pid)
    quiet.take(other.pid)
    with opened(loader_name, SHARED) as tracker:
        tracker.interval()
        storm.step()
        late.step()
        other.step()
        tasks = settled(tracker).tasks
        assert len(of(tasks, cgroup_id=crowded.id, pid=0))
        assert not len(of(tasks, tgid=late.pid))
        assert set(of(tasks, tgid=other.pid)["cgroup_id"]) == {quiet.id}
        assert not len(of(tasks, cgroup_id=quiet.id, pid=0))


def test_storm_counts_for_one_interval(loader_name, start, make_cgroup):
    """A cgroup that has had its share finds room again in the next interval of the same map."""
    crowded, storm, late = make_cgroup(HIERARCHIES[0]), start("fork_storm"), start("burn_twice")
    crowded.take(storm.pid)
    crowded.take(late.pid)
    with opened(loader_name, SHARED) as tracker:
        tracker.interval()
        storm.step()
        assert len(of(settled(tracker).tasks, cgroup_id=crowded.id, pid=0))
        tracker.interval()
        late.step()
        tasks = settled(tracker).tasks
        assert len(of(tasks, tgid=late.pid))
        assert not len(of(tasks, cgroup_id=crowded.id, pid=0))


def test_end_that_finds_no_room_is_told_apart(loader_name, start, make_cgroup):
    """A process without a record in the interval in which it ends is known to have ended."""
    crowded, storm, ending = make_cgroup(HIERARCHIES[0]), start("fork_storm"), start("burn_once")
    crowded.take(storm.pid)
    crowded.take(ending.pid)
    started = stat_field(str(ending.pid), STAT_START)
    with opened(loader_name, SHARED) as tracker:
        tracker.interval()
        storm.step()
        ending.go()
        ending.end()
        assert not len(of(settled(tracker).tasks, tgid=ending.pid))
        told = dict(zip(*tracker.take_ends(), strict=True))
        assert ticks(told[ending.pid]) == started
        assert storm.pid not in told
        assert not len(tracker.take_ends()[0])


def test_end_is_told_with_its_own_interval(loader_name, start):
    """An end that comes while an interval is drained is the next one's, as its records are."""
    with opened(loader_name, 1) as tracker:
        tracker.interval()
        ending = start("burn_once")
        tracker.close_interval()
        ending.go()
        ending.end()
        time.sleep(SETTLE_S)
        tracker.drain()
        early = tracker.take_ends()[0]
        tracker.interval()
        assert ending.pid not in early
        assert ending.pid in tracker.take_ends()[0]


def test_two_full_maps_count_what_is_lost(loader_name, start):
    """Where neither the task nor its cgroup finds room the time is lost, and says so."""
    with loaded(loader_name, FEW) as (programs, topology):
        tracker = Tracker(programs, topology, FEW)
        tracker.start()
        for name in ("cgroups_0", "cgroups_1"):
            fill_cgroups(programs.maps[name])
        tracker.interval()
        storm = start("fork_storm")
        storm.step()
        usage = tracker.interval()
        assert lost_ns(usage) > 0
        assert tracker.stats.lost_ns >= lost_ns(usage)
        assert tracker.stats.hidden_ns < tracker.stats.lost_ns
        assert not unbalanced_ns(usage).any()
        tracker.close()


def test_overflow_without_room_comes_with_a_later_interval(loader_name, start, monkeypatch):
    """What waits leaves no room for the cgroups of an overflow: their time is not forgotten."""
    monkeypatch.setattr(tracker_module, "MAX_PENDING_RECORDS", -FEW // 4)
    with opened(loader_name, FEW) as tracker:
        tracker.interval()
        start("fork_storm").step()
        full = settled(tracker)
        later = joined([tracker.interval() for _ in range(4)])
        assert 0.9 * FEW < len(full.tasks) <= FEW
        assert len(of(later, comm=OVERFLOW_COMM.encode()))


def test_records_of_a_drain_that_failed_are_those_of_the_next(loader_name, start):
    """An interval whose cgroups could not be drained goes on, with the tasks drained so far."""
    with loaded(loader_name, FEW) as (programs, topology):
        tracker = Tracker(programs, topology, FEW)
        tracker.start()
        storm = start("fork_storm")
        storm.step()
        cgroups = [os.dup(programs.maps[name]) for name in ("cgroups_0", "cgroups_1")]
        unusable = os.open("/dev/null", os.O_RDONLY)
        for name in ("cgroups_0", "cgroups_1"):
            os.dup2(unusable, programs.maps[name])
        tracker.close_interval()
        with pytest.raises(ReadError):
            tracker.drain()
        for name, descriptor in zip(("cgroups_0", "cgroups_1"), cgroups, strict=True):
            os.dup2(descriptor, programs.maps[name])
            os.close(descriptor)
        os.close(unusable)
        tracker.close_interval()
        assert tracker.drain().record_count == tracker.pending_records > 0.9 * FEW
        tracker.close()


def fill_cgroups(map_fd: int) -> None:
    """Put as many cgroups into a map as it holds, none of which exist."""
    value = (ctypes.c_uint64 * 2)()
    for number in range(CGROUP_ENTRIES):
        key = (ctypes.c_uint64 * 2)(1 << 40 | number, 0)
        library().bpf_map_update_elem(
            ctypes.c_int(map_fd), ctypes.byref(key), ctypes.byref(value), ctypes.c_uint64(0)
        )


def test_hundred_thousand_tasks_in_one_interval_are_counted(tracker, start, make_cgroup):
    """More tasks than the map holds are told by cgroup: all their time is still there."""
    cgroup, load, spinner = make_cgroup(HIERARCHIES[0]), start("many_tasks"), start("spin")
    # Beside a spinner no task ends an idle spell, whose end the kernel's clock gives to the task.
    for each in (load, spinner):
        each.pin(0)
    spinner.go()
    cgroup.take(load.pid)
    tracker.interval()
    stopwatch, before_ns = Stopwatch(), cgroup.cpu_ns
    load.step()
    usage = settled(tracker)
    truth = stopwatch.truth(cgroup.cpu_ns - before_ns)
    assert 0.9 < tracker.stats.map_fill_ratio <= 1
    assert tracker.stats.overflow_ns > 0
    assert tracker.stats.process_ends_lost > 0
    assert not unbalanced_ns(usage).any()
    assert cpu_ns(of(usage.tasks, cgroup_id=cgroup.id)) >= 0.99 * truth.least_ns


# --- CPUs that come and go ----------------------------------------------------------------------


class ClaimsMore(Topology):
    """A topology that says one CPU more is online than this host has got."""

    claimed: tuple[int, ...] = ()

    @property
    def socket_of(self) -> tuple[int, ...]:
        return (*super().socket_of, *(0 for _ in self.claimed))

    def online(self) -> tuple[int, ...]:
        return (*super().online(), *self.claimed)


def test_cpu_that_vanishes_before_it_is_closed_has_no_window(loader_name):
    """A CPU that was listed as online and cannot be interrupted adds nothing to an interval."""
    with loaded(loader_name, ENTRIES, extra_cpus=1) as (programs, real):
        topology = ClaimsMore()
        topology.claimed = (len(real.socket_of),)
        tracker = Tracker(programs, topology, ENTRIES)
        tracker.start()
        time.sleep(0.5)
        usage = tracker.interval()
        passed_ns = usage.end_ns - usage.start_ns
        assert usage.wall_ns == pytest.approx(passed_ns * len(real.online()), rel=0.01)
        assert not unbalanced_ns(usage).any()
        tracker.close()
        topology.close()


def test_cpu_that_is_not_there_cannot_be_interrupted(loader_name):
    """Running a program on a CPU that is not online is told apart from a failure."""
    with loaded(loader_name) as (programs, topology):
        rotate = TestRun(programs.programs["rotate"])
        assert not rotate.on_cpu(len(topology.socket_of))
        assert rotate.on_cpu(topology.online()[0])


def test_only_busy_time_counts_of_a_cpu_that_came_or_went(loader_name):
    """Of a CPU that was not online at both ends of an interval the idle time is not known."""
    with loaded(loader_name) as (programs, topology):
        count = len(topology.socket_of)
        start = Boundary(frozenset(range(count)), (Figures(0, 0, 0, 0, 0),) * count, 0, 0)
        end = Boundary(frozenset({0}), (Figures(1000, 700, 300, 10, 0),) * count, 1000, 0)
        slots = Slots(programs, topology)
        slots.prepare()
        times, wall_ns = slots.between(start, end)
        assert sum(times.busy_ns) == 300 * count
        assert sum(times.idle_ns) == 700
        assert sum(times.busy_ns + times.idle_ns) == wall_ns == 1000 + 300 * (count - 1)


@contextmanager
def offline(switch: Path):
    """Take a CPU away for a while."""
    switch.write_text("0")
    try:
        yield
    finally:
        switch.write_text("1")


def test_hotplug_keeps_the_balance_or_is_refused_by_this_kernel(tracker, start):
    """Taking a CPU away and giving it back breaks no law; a kernel that refuses says so.

    More tasks than CPUs want to run, so that a CPU which comes back is not idle from then on.
    """
    refused = {errno.EBUSY, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT}
    for load in [start("spin") for _ in range(3)] + [start("fork_storm")]:
        load.go()
    tracker.interval()
    usages = []
    try:
        for _ in range(8):
            with offline(CPU_1):
                usages += collect(tracker, 0.1, every_s=0.01)
            usages += collect(tracker, 0.15, every_s=0.01)
    except OSError as error:
        if error.errno not in refused:
            raise
        usages += collect(tracker, 0.2)
    assert not any(unbalanced_ns(usage).any() for usage in usages)
    assert all(usage.sockets.window_ns.sum() == usage.wall_ns for usage in usages)
