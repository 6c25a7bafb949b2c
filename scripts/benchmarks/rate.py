"""rate_100hz: what a hundred intervals a second cost, and how punctual they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from benchmarks.exporter import running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import Checkout, two_cpus, working
from benchmarks.watched import watched
from kepler_ebpf.model.arrays import Floats

INTERVAL = ("--interval", "10ms")
SETTLE_S = 2.0
SECONDS = 20.0
MAX_LATE_MS = 1.0
MAX_STORM_SHARE = 0.05
SMALL_LOADS_PERCENT = (2, 3, 5)
BESIDE = ("small_load", "two_fork_storms")


def measure() -> Iterator[Figure]:
    """Run at 10 ms beside a small load, and then beside two fork storms."""
    (share, small), (storm_share, storms) = (_watched(beside) for beside in BESIDE)
    details: Details = {
        "bar_lateness_p99_ms": f"<= {MAX_LATE_MS:g}",
        **_lateness(small),
        "cpu_ms_per_interval": rounded(share * SECONDS * 1000 / len(small)),
        "under_two_fork_storms": {
            "share": rounded(storm_share),
            "bar_share": f"<= {MAX_STORM_SHARE:g}",
            **_lateness(storms),
        },
    }
    late_ms = max(float(np.percentile(each, 99)) for each in (small, storms))
    also = late_ms <= MAX_LATE_MS and storm_share <= MAX_STORM_SHARE
    yield Figure("rate_100hz", share, "of a core", Bar(0.03), details, also=also)


def sample(checkout: Checkout) -> dict[str, float]:
    """Part of a core that a checkout uses beside the same two."""
    return {beside: _share(checkout, beside) for beside in BESIDE}


def _share(checkout: Checkout, beside: str) -> float:
    with _load(beside), running(*INTERVAL, checkout=checkout) as exporter:
        time.sleep(SETTLE_S)
        return exporter.share(SECONDS)


def _watched(beside: str) -> tuple[float, Floats]:
    """Part of a core used, and each tick's lateness in milliseconds."""
    with _load(beside), watched("lateness", *INTERVAL) as watch:
        time.sleep(SETTLE_S)
        window = watch.collect(SECONDS)
        return window.share, np.array(watch.numbers(window)) * 1000


@contextmanager
def _load(beside: str) -> Iterator[None]:
    with ExitStack() as stack:
        if beside == "small_load":
            for percent in SMALL_LOADS_PERCENT:
                stack.enter_context(working("duty", percent))
        else:
            for cpu in two_cpus():
                stack.enter_context(working("commands", 0, cpu=cpu))
        yield


def _lateness(late_ms: Floats) -> Details:
    return {
        "lateness_p50_ms": rounded(float(np.median(late_ms))),
        "lateness_p99_ms": rounded(float(np.percentile(late_ms, 99))),
        "lateness_worst_ms": rounded(float(late_ms.max())),
        "ticks_per_s": rounded(len(late_ms) / SECONDS),
    }
