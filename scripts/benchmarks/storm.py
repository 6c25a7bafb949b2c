"""storm_share: a container of short-lived children beside one of a single process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.cgroup import cgroups
from benchmarks.exporter import Exporter, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.powercap import driven_tree
from benchmarks.processes import load, two_cpus

CHILD_MS = (5, 20, 100)
SECONDS = 20
POINTS = 100


def measure() -> Iterator[Figure]:
    """Give two containers a CPU each; compare the first one's share of the joules and of CPU."""
    with driven_tree() as sysfs:
        arguments = ("--interval", "1s", "--meter", "rapl", "--host.sysfs", sysfs)
        with running(*arguments) as exporter:
            each = {child_ms: _shares(exporter, child_ms) for child_ms in CHILD_MS}
    worst = max(abs(joules - used) for joules, used, _ in each.values()) * POINTS
    details: Details = {
        f"children_of_{child_ms}_ms": {
            "joules_share": rounded(joules),
            "wait4_share": rounded(used),
            "cgroup_share": rounded(by_cgroup),
            "points": rounded((joules - used) * POINTS),
        }
        for child_ms, (joules, used, by_cgroup) in each.items()
    }
    yield Figure("storm_share", worst, "percentage points", Bar(0.5), details)


def _shares(exporter: Exporter, child_ms: int) -> tuple[float, float, float]:
    """The first container's share of joules, of wait4 CPU time and of the cgroups' own."""
    first, second = two_cpus()
    with cgroups() as made, ExitStack() as stack:
        groups = [made.container(child_ms * 10 + number) for number in (1, 2)]
        storm = stack.enter_context(load("children", child_ms, SECONDS, cpu=first))
        single = stack.enter_context(load("spin", SECONDS, cpu=second))
        for (_, cgroup), started in zip(groups, (storm, single), strict=True):
            cgroup.enter(started.pid)
        storm.go()
        single.go()
        used = [started.finish().cpu_s for started in (storm, single)]
        by_cgroup = [cgroup.used_s() for _, cgroup in groups]
        page = exporter.settled()
    joules = [
        page.total("kepler_container_cpu_joules_total", container_id=id_, zone="package")
        for id_, _ in groups
    ]
    return _first_share(joules), _first_share(used), _first_share(by_cgroup)


def _first_share(figures: list[float]) -> float:
    return figures[0] / sum(figures)
