"""hog_error: a task that never leaves its CPU is billed in full in every interval."""

from __future__ import annotations

import mmap
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.load import STAMP
from benchmarks.measuring import Intervals, cpu_ns_of, measuring, punctual, wall_ns_of
from benchmarks.processes import grid, two_cpus, working

INTERVAL_S = 0.1
INTERVALS = 50
FRESH_NS = 100_000
"""A running hog stamps its file every microsecond; an older stamp means that it waits."""

HIGHEST_PRIORITY = -20


@dataclass(frozen=True, slots=True)
class Hog:
    """A spinning task."""

    pid: int
    stamp: mmap.mmap

    def is_running(self) -> bool:
        """Tell whether it has its CPU at this moment."""
        (stamped_ns,) = STAMP.unpack_from(self.stamp)
        return time.monotonic_ns() - int(stamped_ns) < FRESH_NS

    def waited_ns(self) -> int:
        """Time it has waited for its CPU in all, by the scheduler's own account."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text("ascii").split()[1])


@dataclass(frozen=True, slots=True)
class Stretch:
    """One interval, or several where the hog did not run at the end of the ones between.

    What it had waited by then is not known before it runs again.
    """

    intervals: int
    counted_ns: int
    wall_ns: int
    waited_ns: int

    @property
    def error_ns(self) -> int:
        """How far the count is from the time by the clock, less what the hog had to wait."""
        return abs(self.counted_ns - (self.wall_ns - self.waited_ns))


def measure() -> Iterator[Figure]:
    """Spin on one CPU at the highest ordinary priority and look every 100 ms."""
    own_cpu, cpu = two_cpus()
    with _hog(cpu) as hog, measuring() as measured, punctual(own_cpu):
        seen = list(_stretches(measured, hog))
    scale_ns = INTERVAL_S * 1e9
    errors = [each.error_ns / scale_ns for each in seen]
    to_wall = [abs(each.counted_ns - each.wall_ns) / scale_ns for each in seen]
    details = {
        "truth": "wall time less the hog's own wait for its CPU (schedstat)",
        "median": rounded(statistics.median(errors)),
        "against_wall_worst": rounded(max(to_wall)),
        "against_wall_median": rounded(statistics.median(to_wall)),
        "intervals": sum(each.intervals for each in seen),
        "intervals_joined": sum(each.intervals for each in seen if each.intervals > 1),
        "intervals_without_wait": sum(not each.waited_ns for each in seen),
    }
    yield Figure("hog_error", max(errors), "ratio", Bar(0.005), details)


@contextmanager
def _hog(cpu: int) -> Iterator[Hog]:
    with tempfile.NamedTemporaryFile(prefix="kepler-ebpf-bench-") as file:
        file.truncate(STAMP.size)
        with (
            mmap.mmap(file.fileno(), STAMP.size) as stamp,
            working("hog", file.name, cpu=cpu, nice=HIGHEST_PRIORITY) as started,
        ):
            yield Hog(started.pid, stamp)


def _stretches(measured: Intervals, hog: Hog) -> Iterator[Stretch]:
    _until_running(measured, hog)
    waited_ns, intervals, counted_ns, wall_ns = hog.waited_ns(), 0, 0, 0
    for _ in grid(INTERVAL_S, INTERVALS):
        interval = measured.next()
        # On both sides: a wait shows up only when it is over.
        running = hog.is_running()
        now_waited_ns = hog.waited_ns()
        running = running and hog.is_running()
        intervals += 1
        counted_ns += cpu_ns_of(interval, hog.pid)
        wall_ns += wall_ns_of(interval)
        if running:
            yield Stretch(intervals, counted_ns, wall_ns, now_waited_ns - waited_ns)
            waited_ns, intervals, counted_ns, wall_ns = now_waited_ns, 0, 0, 0


def _until_running(measured: Intervals, hog: Hog) -> None:
    """Begin at an end of an interval where it runs."""
    for _ in grid(INTERVAL_S, INTERVALS):
        measured.next()
        if hog.is_running():
            return
    raise RuntimeError("the spinning task does not get its CPU")
