"""accounting_error: all CPU time that passed shows up, and only once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.account import cpu_time_tracker
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import grid, two_cpus, working
from kepler_ebpf.model.usage import Usage

INTERVAL_S = 0.1
INTERVALS = 60


def measure() -> Iterator[Figure]:
    """Close 60 intervals while two CPUs start one short command after the other."""
    first, second = two_cpus()
    with (
        working("commands", 0, cpu=first),
        working("commands", 0, cpu=second),
        cpu_time_tracker(INTERVAL_S) as account,
    ):
        account.interval()
        usages = [account.interval() for _ in grid(INTERVAL_S, INTERVALS)]
    errors = [_error_ns(usage) / usage.wall_ns for usage in usages]
    total = abs(sum(map(_error_ns, usages))) / sum(usage.wall_ns for usage in usages)
    details = {
        "worst_interval": rounded(max(map(abs, errors))),
        "median_interval": rounded(statistics.median(map(abs, errors))),
        "intervals": len(usages),
        "tasks_per_interval": statistics.mean(len(usage.tasks) for usage in usages),
        "lost_s": sum(int(usage.sockets.lost_ns.sum()) for usage in usages) / 1e9,
        "busy_share": rounded(_busy_share(usages)),
    }
    worst = max(map(abs, errors), default=0.0)
    yield Figure("accounting_error", max(worst, total), "ratio", Bar(0.001), details)


def _error_ns(usage: Usage) -> int:
    sockets = usage.sockets
    counted_ns = usage.tasks["cpu_ns"].sum() + sockets.idle_ns.sum() + sockets.lost_ns.sum()
    return int(counted_ns) - usage.wall_ns


def _busy_share(usages: list[Usage]) -> float:
    busy_ns = sum(int(usage.sockets.busy_ns.sum()) for usage in usages)
    return busy_ns / sum(usage.wall_ns for usage in usages)
