"""short_containers_attributed: 200 containers that are gone before the interval ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.cgroup import Cgroups, cgroups
from benchmarks.exporter import Scrape, config_file, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import load, two_cpus, working

CONTAINERS = 200
LIFE_S = 0.05
LOWEST_PRIORITY = 19
KEEP_ALL = "monitor: {maxTerminated: -1}\nebpf: {terminatedRetention: 1h}\n"
"""On a busy host it takes long to start them, and others come and go as well."""

MOST = 1.01


def measure() -> Iterator[Figure]:
    """Keep all CPUs busy, so that a CPU second is worth the same throughout, and run them."""
    with ExitStack() as stack:
        for cpu in two_cpus():
            stack.enter_context(working("spin", 0, cpu=cpu, nice=LOWEST_PRIORITY))
        made = stack.enter_context(cgroups())
        config = stack.enter_context(config_file(KEEP_ALL))
        arguments = ("--interval", "1s", "--meter", "estimate", "--config.file", config)
        exporter = stack.enter_context(running(*arguments))
        before = exporter.scrape()
        used = dict(_run_one(made, number) for number in range(CONTAINERS))
        page = exporter.settled()
    joules = page.by("container_id", "kepler_container_cpu_joules_total")
    seconds = page.by("container_id", "kepler_container_cpu_seconds_total")
    worth_w = (_joules(page) - _joules(before)) / (_seconds(page) - _seconds(before))
    ratios = [joules.get(id_, 0.0) / (used_s * worth_w) for id_, used_s in used.items()]
    value = sum(joules.get(id_, 0.0) for id_ in used) / (sum(used.values()) * worth_w)
    details = {
        "containers": CONTAINERS,
        "ids_present": sum(id_ in joules for id_ in used),
        "worst_container": rounded(min(ratios)),
        "seconds_ratio": rounded(sum(seconds.get(id_, 0.0) for id_ in used) / sum(used.values())),
        "joules_per_cpu_second": rounded(worth_w),
    }
    also = used.keys() <= joules.keys() and value <= MOST
    bar = Bar(0.99, at_least=True)
    yield Figure("short_containers_attributed", value, "ratio", bar, details, also=also)


def _run_one(made: Cgroups, number: int) -> tuple[str, float]:
    """Make a container, spin in it, remove it; return its id and the CPU time by its cgroup."""
    id_, cgroup = made.container(number)
    with load("spin", LIFE_S) as started:
        cgroup.enter(started.pid)
        started.go()
        started.finish()
    used_s = cgroup.used_s()
    cgroup.remove()
    return id_, used_s


def _joules(page: Scrape) -> float:
    """What all processes were given: those that are not listed are in rows as well."""
    return page.total("kepler_process_cpu_joules_total")


def _seconds(page: Scrape) -> float:
    return page.total("kepler_process_cpu_seconds_total")
