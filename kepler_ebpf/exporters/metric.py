"""What a metric is: its name, its meaning, its labels, and how its figures are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from kepler_ebpf.host.topology import CpuInfo
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.levels import LEVELS
from kepler_ebpf.model.workloads import WorkloadView

T = TypeVar("T")

ALWAYS = "always"
"""The level of a metric that no choice of levels leaves out."""

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values in the order of the metric's labels, and the figure in the metric's unit."""

Columns = Iterable[tuple[str, Floats]]
"""Zone kinds ("" for none) with the figure of each row, shape (rows,), in the metric's unit."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples: its name, its HELP text and its labels beside ``node_name``.

    ``level`` is one of ``model.levels.LEVELS`` or ALWAYS. ``node_name`` is False where that
    label is left out.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    level: str = ALWAYS
    node_name: bool = True

    @property
    def type(self) -> Literal["counter", "gauge"]:
        """The Prometheus type: counters are the names that end in ``_total``."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def family(self) -> str:
        """The name in OpenMetrics, where a counter's family has no ``_total``."""
        return self.name.removesuffix("_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledMetric(Metric, Generic[T]):
    """A metric of few samples, which ``read`` takes from its source."""

    read: Callable[[T], Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadMetric(Metric, Generic[T]):
    """A metric with samples for each row of its level, ``read`` from a snapshot and the table.

    Its labels are attributes of the row's labels object, ``state`` and ``zone``.
    """

    read: Callable[[T, WorkloadView], Columns]


def figure(
    name: str, text: str, read: Callable[[T], float | None], level: str = ALWAYS
) -> SampledMetric[T]:
    """Make a metric of one figure without labels; *read* returns None where there is none."""

    def samples(source: T) -> Samples:
        value = read(source)
        return () if value is None else (((), value),)

    return SampledMetric(name, text, level=level, read=samples)


@dataclass(frozen=True, slots=True)
class Build:
    """The labels of kepler_build_info; ``goversion`` holds the Python version."""

    arch: str
    branch: str
    revision: str
    version: str
    goversion: str


@dataclass(frozen=True, slots=True)
class Host:
    """The machine and the run, as far as they do not change; ``levels`` are those exported."""

    node_name: str
    build: Build
    cpus: tuple[CpuInfo, ...] = ()
    levels: frozenset[str] = frozenset(LEVELS)
