"""wakeups_per_s: how often the whole program wakes, with nobody who reads."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.exporter import running
from benchmarks.figure import Bar, Details, Figure
from benchmarks.processes import OURS, Checkout, sleepers

SLEEPERS = 100
SETTLE_S = 8.0
SECONDS = 30

_VOLUNTARY = re.compile(r"^voluntary_ctxt_switches:\t(\d+)$", re.MULTILINE)


def measure() -> Iterator[Figure]:
    """Count each thread's voluntary context switches at intervals of one second."""
    by_thread = _wakeups(OURS)
    details: Details = {"by_thread": sorted(by_thread), "seconds": SECONDS}
    yield Figure("wakeups_per_s", sum(by_thread), "1/s", Bar(2), details)


def sample(checkout: Checkout) -> dict[str, float]:
    """Those of all threads of a checkout."""
    return {"all_threads": sum(_wakeups(checkout))}


def _wakeups(checkout: Checkout) -> list[float]:
    with sleepers(SLEEPERS), running("--interval", "1s", checkout=checkout) as exporter:
        time.sleep(SETTLE_S)
        before = _switches(exporter.pid)
        time.sleep(SECONDS)
        after = _switches(exporter.pid)
    return [(count - before.get(thread, 0)) / SECONDS for thread, count in after.items()]


def _switches(pid: int) -> dict[str, int]:
    """By thread, since it started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {
        thread.name: int(match[1])
        for thread in threads
        if (match := _VOLUNTARY.search((thread / "status").read_text("utf-8")))
    }
