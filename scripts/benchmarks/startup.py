"""first_metrics_s: from exec of `kepler-ebpf run` to a scrape with process series."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.exporter import starting
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS, Checkout

STARTS = 5
POLL_S = 0.01


def measure() -> Iterator[Figure]:
    """Start it five times at its default interval of one second."""
    seconds = [_first_metrics_s(OURS) for _ in range(STARTS)]
    details = {
        "worst": rounded(max(seconds)),
        "best": rounded(min(seconds)),
        "starts": STARTS,
        "interval_s": 1,
    }
    yield Figure("first_metrics_s", statistics.median(seconds), "s", Bar(1.5), details)


def sample(checkout: Checkout) -> dict[str, float]:
    """Median of a checkout."""
    return {"median": statistics.median(_first_metrics_s(checkout) for _ in range(STARTS))}


def _first_metrics_s(checkout: Checkout) -> float:
    began_s = time.monotonic()
    with starting(checkout=checkout) as exporter:
        exporter.await_series(POLL_S)
        return time.monotonic() - began_s
