"""What fills or breaks what is in the kernel: maps, rings, programs."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bed import Bed
from cgroup_tree import cgroup_tree
from fault import fault, total
from trackers import Load

LOST = total("kepler_ebpf_lost_cpu_seconds_total")
OVERFLOW = total("kepler_ebpf_overflow_cpu_seconds_total")
CGROUPS = 6_000
EXECS = 2_500


@contextmanager
def stopped(bed: Bed) -> Iterator[None]:
    """Let the program not run for the length of the context."""
    bed.run.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        bed.run.process.send_signal(signal.SIGCONT)


@fault("small", "the rest is known by cgroup only, and counted", counted=OVERFLOW)
def task_map_is_full(_: Bed) -> Iterator[None]:
    """100,000 processes in a moment fill the task map."""
    load = Load("many_tasks")
    try:
        load.step()
    finally:
        load.close()
    yield


@fault(
    "small",
    "CPU time without an owner is counted as lost, and its energy as unattributed",
    counted=LOST,
)
def cgroup_map_is_full(bed: Bed) -> Iterator[None]:
    """A process moves through 6,000 cgroups, more than both maps hold."""
    with cgroups(bed, CGROUPS) as made:
        with stopped(bed):
            tour([*made, made[0].parents[1]])
        yield


def tour(cgroups: list[Path]) -> None:
    """Let a process enter all these, one after the other."""
    pid = os.fork()
    if pid == 0:
        for each in cgroups:
            (each / "cgroup.procs").write_text("0")
        os._exit(0)
    os.waitpid(pid, 0)


@contextmanager
def cgroups(bed: Bed, count: int) -> Iterator[list[Path]]:
    """Make so many cgroups in the hierarchy that the program counts by; they are removed."""
    with cgroup_tree(bed.cgroups.hierarchy, "many") as tree:
        yield [tree.make(f"/{number}").directory for number in range(count)]


@fault(
    "small",
    "dropped events are counted; cgroups are looked for in the file system",
    counted=total("kepler_ebpf_lost_cgroup_events_total"),
)
def cgroup_event_map_is_full(bed: Bed) -> Iterator[None]:
    """6,000 cgroups are made and removed while the program is stopped."""
    with stopped(bed), cgroups(bed, CGROUPS):
        pass
    yield


@fault("small", "it measures on")
def cgroups_come_in_a_crowd(bed: Bed) -> Iterator[None]:
    """6,000 cgroups are made at once, and removed at once."""
    with cgroups(bed, CGROUPS):
        yield


@fault(
    "small",
    "dropped events are counted; names come from /proc",
    counted=total("kepler_ebpf_lost_exec_events_total"),
)
def exec_ring_is_full(bed: Bed) -> Iterator[None]:
    """2,500 execs with long arguments while the program is stopped."""
    arguments = ["/bin/true", "x" * 300]
    with stopped(bed):
        for _ in range(EXECS):
            os.waitpid(os.posix_spawn(arguments[0], arguments, {}), 0)
    yield


@fault("small", "the kernel refuses it for raw tracepoints: nothing is lost")
def programs_are_detached(bed: Bed) -> Iterator[None]:
    """Root tries to detach the programs with `bpftool link detach`."""
    before = bed.run.kernel_objects()
    links = [str(number) for kind, number in before if kind == "link"]
    assert links
    for number in links:
        subprocess.run(
            ["bpftool", "link", "detach", "id", number], capture_output=True, check=False
        )
    yield
    assert before <= bed.run.kernel_objects()
