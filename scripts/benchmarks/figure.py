"""A measured figure, the bar it is held against, and the host it was measured on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Details = Mapping[str, object]
Measure = Callable[[], Iterator["Figure"]]

NOISE_WINDOW_S = 0.5
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """The limit of a figure; *at_least* where more is better."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        """Tell whether *value* is on the right side."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. ``also`` holds further conditions, each already decided."""

    name: str
    value: float
    unit: str
    bar: Bar
    details: Details = field(default_factory=dict)
    also: bool = True

    @property
    def met(self) -> bool:
        """Tell whether the bar and all further conditions are met."""
        return self.also and self.bar.met_by(self.value)

    def to_json(self, host: Details) -> str:
        """Write it in one line, *host* last."""
        return json.dumps(
            {
                "figure": self.name,
                "value": rounded(self.value),
                "unit": self.unit,
                "bar": str(self.bar),
                "met": self.met,
                **self.details,
                "host": dict(host),
            }
        )


def rounded(value: float) -> float:
    """Keep the digits that mean something."""
    return float(f"{value:.{DIGITS}g}")


def host_facts() -> dict[str, object]:
    """Say where this runs, and how busy the host is with other things at this moment."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": rounded(os.getloadavg()[0]),
        "busy_before": round(_busy_share(), 3),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def stolen_s() -> float:
    """CPU time since boot that the hypervisor gave to others while this host wanted it."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        return int(stat.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def _busy_share() -> float:
    before = _cpu_ticks()
    time.sleep(NOISE_WINDOW_S)
    total, idle = (now - then for now, then in zip(_cpu_ticks(), before, strict=True))
    return 1 - idle / max(total, 1)


def _cpu_ticks() -> tuple[int, int]:
    """All ticks and idle ticks of the host since boot."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        ticks = [int(text) for text in stat.readline().split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]
