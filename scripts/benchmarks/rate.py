"""rate_100hz: what a hundred intervals a second cost, and how punctual they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import two_cpus, working
from benchmarks.watched import watched
from kepler_ebpf.model.arrays import Floats

SETTLE_S = 2.0
SECONDS = 20.0
MAX_LATE_MS = 2.0
SMALL_LOADS_PERCENT = (2, 3, 5)


def measure() -> Iterator[Figure]:
    """Run at 10 ms beside a small load, and then beside two fork storms."""
    small = [("duty", percent) for percent in SMALL_LOADS_PERCENT]
    share, late_ms = _run(small)
    storm_share, storm_late_ms = _run([("commands", 0), ("commands", 0)], pinned=True)
    p99_ms = float(np.percentile(late_ms, 99))
    details: Details = {
        "lateness_p99_ms": rounded(p99_ms),
        "bar_lateness_p99_ms": f"<= {MAX_LATE_MS:g}",
        "lateness_p50_ms": rounded(float(np.median(late_ms))),
        "lateness_worst_ms": rounded(float(late_ms.max())),
        "ticks_per_s": rounded(len(late_ms) / SECONDS),
        "cpu_ms_per_interval": rounded(share * SECONDS * 1000 / len(late_ms)),
        "under_two_fork_storms": {
            "share": rounded(storm_share),
            "lateness_p50_ms": rounded(float(np.median(storm_late_ms))),
            "lateness_p99_ms": rounded(float(np.percentile(storm_late_ms, 99))),
            "ticks_per_s": rounded(len(storm_late_ms) / SECONDS),
        },
    }
    also = p99_ms <= MAX_LATE_MS
    yield Figure("rate_100hz", share, "of a core", Bar(0.08), details, also=also)


def _run(loads: list[tuple[str, int]], *, pinned: bool = False) -> tuple[float, Floats]:
    """Part of a core used, and each tick's lateness in milliseconds."""
    cpus = two_cpus() if pinned else (None,) * len(loads)
    with ExitStack() as stack:
        for (kind, number), cpu in zip(loads, cpus, strict=True):
            stack.enter_context(working(kind, number, cpu=cpu))
        watch = stack.enter_context(watched("lateness", "--interval", "10ms"))
        time.sleep(SETTLE_S)
        window = watch.collect(SECONDS)
        return window.share, np.array(watch.numbers(window)) * 1000
