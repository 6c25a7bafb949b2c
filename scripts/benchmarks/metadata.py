"""metadata_cost: what 1,000 new processes a second cost, whether they are gone at once or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.exporter import Exporter, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import two_cpus, working

RATE = 1_000
LIVES_S = (0, 1.5)
"""Gone within the interval that sees them, and alive when they are named."""

SETTLE_S = 3.0
SECONDS = 15.0


def measure() -> Iterator[Figure]:
    """Compare the exporter's CPU time at rest and beside processes that come and go."""
    with running("--interval", "1s") as exporter:
        time.sleep(SETTLE_S)
        rest, _ = _share_and_rate(exporter)
        busy = {life_s: _beside_starts(exporter, life_s) for life_s in LIVES_S}
    details: Details = {
        "is": "everything that new processes cost (draining, ledger, naming), so an upper bound",
        "at_rest": rounded(rest),
        **{
            f"living_{life_s:g}_s": {"share": rounded(share), "starts_per_s": rounded(rate)}
            for life_s, (share, rate) in busy.items()
        },
    }
    value = max(share for share, _ in busy.values()) - rest
    yield Figure("metadata_cost", value, "of a core", Bar(0.05), details)


def _beside_starts(exporter: Exporter, life_s: float) -> tuple[float, float]:
    with ExitStack() as stack:
        cpus = two_cpus()
        for cpu in cpus:
            stack.enter_context(working("starts", RATE / len(cpus), life_s, cpu=cpu))
        time.sleep(SETTLE_S)
        return _share_and_rate(exporter)


def _share_and_rate(exporter: Exporter) -> tuple[float, float]:
    """Part of a core the exporter uses, and processes started on the host in a second."""
    cpu_s, forks, began_s = exporter.cpu_s(), _forks(), time.monotonic()
    time.sleep(SECONDS)
    passed_s = time.monotonic() - began_s
    return (exporter.cpu_s() - cpu_s) / passed_s, (_forks() - forks) / passed_s


def _forks() -> int:
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))
