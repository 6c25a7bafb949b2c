"""tick_cpu_ms_100_idle and tick_cpu_ms_10000_idle: an interval costs what ran, not what sleeps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.exporter import Exporter, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import OURS, Checkout, grid, sleepers, working

FEW, MANY = 100, 10_000
SETTLE_S = 6.0
SECONDS = 30
SMALL_LOADS_PERCENT = (2, 3, 5)
MAX_MS = 3.0
MAX_RATIO = 1.2
WHEN = ("before", "after")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of each interval of one second, in milliseconds."""

    mean_ms: float
    median_ms: float
    worst_ms: float


def measure() -> Iterator[Figure]:
    """Sleepers that were there before the exporter (it never sees them), or came after it."""
    costs = {(count, when): _cost(OURS, count, when) for when in WHEN for count in (FEW, MANY)}
    for count in (FEW, MANY):
        of_count = {when: costs[count, when] for when in WHEN}
        ratios = {when: cost.mean_ms / costs[FEW, when].mean_ms for when, cost in of_count.items()}
        details: Details = {
            "bar_ratio": f"<= {MAX_RATIO}",
            **{
                f"started_{when}": {
                    "ratio": rounded(ratios[when]),
                    "mean_ms": rounded(cost.mean_ms),
                    "median_ms": rounded(cost.median_ms),
                    "worst_ms": rounded(cost.worst_ms),
                }
                for when, cost in of_count.items()
            },
        }
        value = max(cost.mean_ms for cost in of_count.values())
        also = max(ratios.values()) <= MAX_RATIO
        yield Figure(f"tick_cpu_ms_{count}_idle", value, "ms", Bar(MAX_MS), details, also=also)


def sample(checkout: Checkout) -> dict[str, float]:
    """Means of a checkout."""
    return {
        f"{count}_idle_started_{when}": _cost(checkout, count, when).mean_ms
        for when in WHEN
        for count in (FEW, MANY)
    }


def _cost(checkout: Checkout, count: int, when: str) -> Cost:
    with ExitStack() as stack:
        for percent in SMALL_LOADS_PERCENT:
            stack.enter_context(working("duty", percent))
        if when == "before":
            stack.enter_context(sleepers(count))
        exporter = stack.enter_context(running("--interval", "1s", checkout=checkout))
        if when == "after":
            stack.enter_context(sleepers(count))
        time.sleep(SETTLE_S)
        return _each_second(exporter)


def _each_second(exporter: Exporter) -> Cost:
    """CPU time of the exporter second by second; nobody scrapes it meanwhile."""
    clock_s = [exporter.cpu_s() for _ in grid(1.0, SECONDS + 1)]
    each_ms = [(after - before) * 1000 for before, after in pairwise(clock_s)]
    return Cost(statistics.mean(each_ms), statistics.median(each_ms), max(each_ms))
