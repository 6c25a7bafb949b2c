"""metadata_cost: what naming 1,000 new processes a second costs, gone at once or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exporter import running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import two_cpus, working
from benchmarks.watched import watched

RATE = 1_000
LIVES_S = (0, 1.5)
"""Gone within the interval that sees them, and alive when they are named."""

SETTLE_S = 3.0
SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Parts of a core: of naming, and of the whole exporter; with processes named and started."""

    naming: float
    exporter: float
    named_per_s: float
    started_per_s: float


def measure() -> Iterator[Figure]:
    """Have processes come and go, and take the CPU time inside the naming of processes."""
    rest, costs = _at_rest(), {life_s: _beside_starts(life_s) for life_s in LIVES_S}
    details: Details = {
        "exporter_at_rest": rounded(rest),
        **{
            f"living_{life_s:g}_s": {
                "naming": rounded(cost.naming),
                "whole_exporter": rounded(cost.exporter),
                "named_per_s": rounded(cost.named_per_s),
                "started_per_s": rounded(cost.started_per_s),
            }
            for life_s, cost in costs.items()
        },
    }
    value = max(cost.naming for cost in costs.values())
    yield Figure("metadata_cost", value, "of a core", Bar(0.05), details)


def _at_rest() -> float:
    with running("--interval", "1s") as exporter:
        time.sleep(SETTLE_S)
        cpu_s = exporter.cpu_s()
        time.sleep(SECONDS)
        return (exporter.cpu_s() - cpu_s) / SECONDS


def _beside_starts(life_s: float) -> Cost:
    with ExitStack() as stack:
        cpus = two_cpus()
        for cpu in cpus:
            stack.enter_context(working("starts", RATE / len(cpus), life_s, cpu=cpu))
        watch = stack.enter_context(watched("naming", "--interval", "1s"))
        time.sleep(SETTLE_S)
        forks = _forks()
        window = watch.collect(SECONDS)
        forks = _forks() - forks
        named_s = watch.numbers(window)
    return Cost(sum(named_s) / SECONDS, window.share, len(named_s) / SECONDS, forks / SECONDS)


def _forks() -> int:
    """Processes and threads started on the host since boot."""
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))
