"""Samples are of the tasks that are wanted, of no idle CPU, and none is lost without a trace."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import trees
from trackers import LOADERS, opened

from kepler_ebpf.host.facts import kernel_version
from kepler_ebpf.kernel.layout import FRAME_IN_FILE, STACK_FRAME
from kepler_ebpf.kernel.samples import MAX_RING_BYTES, MIN_RING_BYTES, ring_bytes
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.profile.symbols.code_file import open_code

pytest_plugins = ["kernel_fixtures"]

GIVE_UP_S = 60.0
BURN = "while True: pass"
PAGE = 4096
ENOUGH = 20


@pytest.fixture(params=LOADERS)
def tracker(request):
    """Give a tracker that was loaded with jobs and samples, for each loader."""
    with opened(request.param, with_jobs=True, samples_bytes=1 << 20) as shared:
        yield shared


@pytest.fixture
def burners():
    """Start processes that burn CPU time, and kill them in the end."""
    started = []

    def burn():
        started.append(subprocess.Popen([sys.executable, "-ISSc", BURN]))
        return started[-1].pid

    yield burn
    for process in started:
        process.kill()
        process.wait()


def heads_of(tracker, is_enough):
    """Take samples until there are enough."""
    heads: list[Records] = []
    until_s = time.monotonic() + GIVE_UP_S
    while not heads or not is_enough(np.concatenate(heads)):
        assert time.monotonic() < until_s
        time.sleep(0.02)
        heads.append(tracker.samples.take().heads)
    return np.concatenate(heads)


def test_only_marked_tasks_are_sampled(tracker, burners):
    """What is in no job is not sampled, unless everything is."""
    marked, other = burners(), burners()
    tracker.jobs.mark(marked)
    tracker.samples.start(499)
    heads = heads_of(tracker, lambda heads: len(heads) >= ENOUGH)
    assert set(heads["pid"].tolist()) == {marked}
    tracker.samples.start(499, everything=True)
    heads = heads_of(tracker, lambda heads: {marked, other} <= set(heads["pid"].tolist()))
    assert 0 not in heads["pid"]


def test_sample_is_of_the_task_and_epoch_that_the_account_has(tracker, burners):
    """Task, process, start and interval are those under which the running slice is charged."""
    burner = burners()
    tracker.jobs.mark(burner)
    tracker.samples.start(499)
    epoch = tracker.epoch
    heads_of(tracker, lambda heads: len(heads) >= ENOUGH)
    usage = tracker.interval()
    late = tracker.samples.take().heads
    (record,) = usage.tasks[usage.tasks["pid"] == burner]
    heads = heads_of(tracker, lambda heads: len(heads) >= ENOUGH)
    assert set(late["epoch"].tolist()) <= {epoch, epoch + 1}
    assert set(heads["epoch"].tolist()) == {epoch + 1}
    for name in ("start_ns", "process_start_ns", "tgid"):
        assert set(heads[name].tolist()) == {int(record[name])}


def test_threads_of_the_kernel_in_a_process_have_no_user_stack(tracker):
    """A thread that reads for io_uring has the stack in the kernel alone, in its process."""
    if kernel_version(os.uname().release) < (5, 12):
        pytest.skip("before Linux 5.12 threads that work for io_uring are in no process")
    tracker.jobs.arm()
    tracker.samples.start(997)
    command = [sys.executable, "-Ss", trees.__file__, "rings", "100000"]
    with subprocess.Popen(command) as process:
        heads = heads_of(tracker, lambda heads: (heads["pid"] != heads["tgid"]).sum() >= ENOUGH)
        process.kill()
    made = heads["pid"] != heads["tgid"]
    assert (heads["kernel_bytes"][made] > 0).any()
    assert not heads["has_user"][made].any()
    assert not heads["user_bytes"][made].any()
    assert heads["has_user"][~made].all()


def test_frames_have_the_build_id_of_their_file(tracker, burners):
    """The interpreter's own code is found by the build id in its ELF note."""
    tracker.jobs.mark(burners())
    tracker.samples.start(499)
    found = set()
    until_s = time.monotonic() + GIVE_UP_S
    executable = open_code(os.path.realpath(sys.executable))
    assert executable
    wanted = executable.build_id
    while wanted not in found:
        assert time.monotonic() < until_s
        time.sleep(0.02)
        batch = tracker.samples.take()
        for head, offset in zip(batch.heads, batch.offsets.tolist(), strict=True):
            kernel, user = int(head["kernel_bytes"]), int(head["user_bytes"])
            count = user // STACK_FRAME.itemsize
            frames = np.frombuffer(batch.stacks, STACK_FRAME, count, offset + kernel)
            found |= set(frames["build_id"][frames["kind"] == FRAME_IN_FILE].tolist())


@pytest.mark.parametrize("loader", LOADERS)
def test_losses_are_counted(loader, burners):
    """Samples that find no room in the ring are counted, and those that found it are whole."""
    with opened(loader, with_jobs=True, samples_bytes=PAGE) as tracker:
        burner = burners()
        assert tracker.jobs
        assert tracker.samples
        tracker.jobs.mark(burner)
        tracker.samples.start(997)
        until_s = time.monotonic() + GIVE_UP_S
        while tracker.samples.lost < ENOUGH:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        tracker.samples.stop()
        heads = tracker.samples.take().heads
        assert set(heads["pid"].tolist()) == {burner}
        assert len(tracker.samples.take().heads) == 0


def test_timers_follow_the_cpus_that_are_online(tracker, burners):
    """A CPU that goes offline has no timer left, and one that comes online gets one."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    pids = {cpu: burners() for cpu in cpus}
    for cpu, pid in pids.items():
        os.sched_setaffinity(pid, {cpu})
        tracker.jobs.mark(pid)
    online = tuple(cpus)
    tracker.samples.online = lambda: online
    tracker.samples.start(499)
    heads_of(tracker, lambda heads: set(heads["pid"].tolist()) == set(pids.values()))
    online = tuple(cpus[:1])
    tracker.samples.follow_cpus()
    tracker.samples.take()
    heads = heads_of(tracker, lambda heads: len(heads) >= ENOUGH)
    assert set(heads["pid"].tolist()) == {pids[cpus[0]]}
    online = tuple(cpus)
    tracker.samples.follow_cpus()
    heads_of(tracker, lambda heads: set(heads["pid"].tolist()) == set(pids.values()))


@pytest.mark.parametrize(
    ("cpus", "frequency_hz", "least", "most"),
    [(2, 99, MIN_RING_BYTES, MIN_RING_BYTES), (64, 997, 1 << 25, MAX_RING_BYTES)],
)
def test_ring_fits_what_comes_between_two_looks(cpus, frequency_hz, least, most):
    """It has room for deep stacks of all CPUs, between two bounds, and is a power of two."""
    size = ring_bytes(cpus, frequency_hz, 0.25)
    assert least <= size <= most
    assert size & (size - 1) == 0
