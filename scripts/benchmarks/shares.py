"""share_error: tasks that use part of a CPU, against what they say they used."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.measuring import cpu_ns_of, measuring, punctual, wall_ns_of
from benchmarks.processes import cpu_clock_s, grid, two_cpus, working

DUTIES = (75, 50, 25)
INTERVALS = 15


def measure() -> Iterator[Figure]:
    """Run three tasks at 75, 50 and 25 % duty and compare each second of each."""
    with ExitStack() as stack:
        pids = [stack.enter_context(working("duty", duty)).pid for duty in DUTIES]
        intervals = stack.enter_context(measuring())
        stack.enter_context(punctual(two_cpus()[0]))
        intervals.next()
        before = _clocks(pids)
        errors: list[list[float]] = []
        shares: list[list[float]] = []
        for _ in grid(1.0, INTERVALS):
            measured, after = intervals.next(), _clocks(pids)
            wall_s = wall_ns_of(measured) / 1e9
            counted = [cpu_ns_of(measured, pid) / 1e9 / wall_s for pid in pids]
            truth = [(now - then) / wall_s for now, then in zip(after, before, strict=True)]
            errors.append([abs(a - b) for a, b in zip(counted, truth, strict=True)])
            shares.append(counted)
            before = after
    every = [error for row in errors for error in row]
    details = {
        "median": rounded(statistics.median(every)),
        "intervals": INTERVALS,
        "counted_mean": {
            f"{duty}%": rounded(statistics.mean(column))
            for duty, column in zip(DUTIES, zip(*shares, strict=True), strict=True)
        },
    }
    yield Figure("share_error", max(every), "of a core", Bar(0.01), details)


def _clocks(pids: list[int]) -> list[float]:
    """Each task's own CPU clock; they are read within microseconds."""
    return [cpu_clock_s(pid) for pid in pids]
