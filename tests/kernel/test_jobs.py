"""A job is a command and all that comes of it, wherever that goes; and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trees
from trackers import HIERARCHIES, LOADERS, SETTLE_S, cpu_ns, joined, lost_ns, opened
from truth import Stopwatch

from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.kernel.libbpf import enable_stats, program_figures
from kepler_ebpf.kernel.programs import HOOKS, JOB_HOOKS
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

pytest_plugins = ["kernel_fixtures"]

GIVE_UP_S = 60.0
COUNT = 64
LOOKS = 3
"""One look may miss a task that another has just started before it ended."""
SWITCH_NS = 5_000
"""The slice of who leaves includes its way out of the CPU; the kernel's clock has it elsewhere."""


@pytest.fixture(scope="module", params=LOADERS)
def tracker(request):
    """Give a tracker that was loaded with jobs, for each loader."""
    with opened(request.param, with_jobs=True) as shared:
        yield shared


def living(jobs: Jobs) -> list[int]:
    """Return the pids of the job's tasks that run."""
    return [mark.pid for mark in jobs.marks() if is_alive(mark.pid, start_ticks(mark.start_ns))]


def measured(tracker, arguments, **environment):
    """Run a command as a job until all that came of it has ended; return its intervals' records."""
    tracker.interval()
    tracker.jobs.arm()
    process = subprocess.Popen(arguments, env={**os.environ, **environment})
    intervals, until_s = [], time.monotonic() + GIVE_UP_S
    while process.poll() is None or any(living(tracker.jobs) for _ in range(LOOKS)):
        assert time.monotonic() < until_s
        time.sleep(0.05)
        intervals.append(tracker.interval())
    time.sleep(SETTLE_S)
    intervals.append(tracker.interval())
    assert process.returncode == 0
    records = joined(intervals)
    return records[tracker.jobs.select(records)], lost_ns(*intervals)


@pytest.fixture
def _never_idle(start):
    """Keep every CPU busy with what gives way at once.

    The kernel adds the way out of idle to the task that is woken, some 20 µs in a virtual machine;
    we leave that to idle. At an exec the kernel may move a task to a CPU that is idle.
    """
    for cpu in os.sched_getaffinity(0):
        spinner = start("spin")
        os.sched_setaffinity(spinner.pid, {cpu})
        os.sched_setscheduler(spinner.pid, os.SCHED_IDLE, os.sched_param(0))
        spinner.go()


@pytest.mark.usefixtures("_never_idle")
@pytest.mark.parametrize("name", sorted(trees.TREES))
def test_job_has_all_the_time_of_its_tree(tracker, make_cgroup, name):
    """What a tree used is what the cgroup that it lives in has used."""
    home, other = make_cgroup(HIERARCHIES[0]), make_cgroup(HIERARCHIES[0])
    program = [sys.executable, "-Ss", str(Path(trees.__file__)), name, str(COUNT)]
    enter = ["sh", "-c", f'echo 0 > {home.directory}/cgroup.procs; exec "$@"', "sh", *program]
    stopwatch, tasks = Stopwatch(), tracker.jobs.tasks
    records, lost = measured(tracker, enter, OTHER_CGROUP=str(other.directory))
    used_ns = home.cpu_ns + other.cpu_ns
    allowed_ns = int(records["switches"].sum()) * SWITCH_NS
    truth = stopwatch.truth(used_ns, used_ns + allowed_ns)
    assert truth.is_met_by(cpu_ns(records), within=0.005, lost_ns=lost)
    assert tracker.jobs.tasks - tasks >= COUNT
    assert tracker.jobs.marks_lost == 0


def test_thread_that_calls_exec_leaves_no_mark(tracker):
    """It takes the pid of its process's first thread; the mark under its own goes with it."""
    tracker.jobs.arm()
    program = [sys.executable, "-Ss", trees.__file__, "thread_execs", str(COUNT)]
    subprocess.run(program, check=True)
    until_s = time.monotonic() + GIVE_UP_S
    # Where the kernel hides tasks from tracing, it hides some tasks' ends as well.
    while len(list(tracker.jobs.marks())) > COUNT // 2:
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_neighbours_are_not_in_the_job(tracker, start):
    """What runs beside a job, started before or after it by others, is in no job."""
    neighbour = start("fork_storm")
    neighbour.go()
    records, _ = measured(tracker, ["/bin/true"])
    assert set(records["process_comm"].tolist()) <= {b"true", b"python3", b"python"}
    assert tracker.jobs.tasks
    assert len(set(records["tgid"].tolist())) == 1


def test_time_before_the_exec_is_known(tracker):
    """What the first task ran before it became the command is a part of what it ran."""
    records, _ = measured(tracker, ["/bin/true"])
    assert 0 < tracker.jobs.pre_exec_ns < cpu_ns(records)


def test_second_job_has_its_own_tasks(tracker):
    """Of two jobs, one after the other, the last one is selected."""
    measured(tracker, ["sh", "-c", "sleep 0.2 & exit 0"])
    records, _ = measured(tracker, ["/bin/true"])
    assert b"sleep" not in records["comm"].tolist()


def test_marked_process_brings_its_children(tracker):
    """A process that is marked while it runs is in the job with what it starts from then on."""
    loop = "while read _; do /bin/true; done"
    with subprocess.Popen(["sh", "-c", loop], stdin=subprocess.PIPE) as process:
        tracker.jobs.mark(process.pid)
        tracker.interval()
        assert process.stdin
        process.stdin.write(b"\n" * 5)
        process.stdin.close()
        process.wait()
        time.sleep(SETTLE_S)
        taken = tracker.interval().tasks
    mine = taken[tracker.jobs.select(taken)]
    assert {b"sh", b"true"} <= set(mine["process_comm"].tolist())


def test_each_mark_is_listed_once_while_others_are_dropped(tracker, start):
    """A task whose mark goes while marks are listed does not bring back those before it."""
    for _ in range(4):
        tracker.jobs.mark(start("spin").pid)
    marks = tracker.jobs.marks({1})
    listed = [next(marks).pid, next(marks).pid]
    tracker.jobs.unmark(listed[-1])
    listed += [mark.pid for mark in marks]
    assert len(listed) == len(set(listed))


def test_figures_of_programs_have_those_of_jobs(tracker):
    """What the kernel side does for jobs is in its cost, and what the kernel skipped of it."""
    descriptor = enable_stats()
    subprocess.run(["/bin/true"], check=True)
    os.close(descriptor)
    counts = {name: program_figures([tracker.programs[name]])[1] for name in (*HOOKS, *JOB_HOOKS)}
    assert counts["on_fork"]
    assert tracker.program_stats.run_count == sum(counts.values())
