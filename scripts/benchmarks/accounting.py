"""accounting_error: all CPU time that passed shows up, and only once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.measuring import measuring
from benchmarks.processes import grid, two_cpus, working
from kepler_ebpf.model.usage import Measured, Usage

INTERVAL_S = 0.1
INTERVALS = 60


def measure() -> Iterator[Figure]:
    """Close 60 intervals while two CPUs start one short command after the other."""
    first, second = two_cpus()
    with (
        working("commands", 0, cpu=first),
        working("commands", 0, cpu=second),
        measuring() as intervals,
    ):
        intervals.next()
        measured = [intervals.next() for _ in grid(INTERVAL_S, INTERVALS)]
    usages = [each.intervals[0].usage for each in measured]
    errors = [_error_ns(each) / usage.wall_ns for each, usage in zip(measured, usages, strict=True)]
    total = abs(sum(map(_error_ns, measured))) / sum(usage.wall_ns for usage in usages)
    details = {
        "worst_interval": rounded(max(map(abs, errors))),
        "median_interval": rounded(statistics.median(map(abs, errors))),
        "intervals": len(usages),
        "tasks_per_interval": statistics.mean(usage.record_count for usage in usages),
        "lost_s": sum(sum(usage.sockets.lost_ns) for usage in usages) / 1e9,
        "busy_share": rounded(_busy_share(usages)),
    }
    worst = max(map(abs, errors), default=0.0)
    yield Figure("accounting_error", max(worst, total), "ratio", Bar(0.001), details)


def _error_ns(measured: Measured) -> int:
    usage = measured.intervals[0].usage
    others_ns = sum(usage.sockets.idle_ns) + sum(usage.sockets.lost_ns)
    return int(measured.records["cpu_ns"].sum()) + others_ns - usage.wall_ns


def _busy_share(usages: list[Usage]) -> float:
    busy_ns = sum(sum(usage.sockets.busy_ns) for usage in usages)
    return busy_ns / sum(usage.wall_ns for usage in usages)
