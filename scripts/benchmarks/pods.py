"""pod_sum_error: a pod is the sum of its containers, and they are the sums of their processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.cgroup import cgroups
from benchmarks.exporter import Scrape, config_file, running
from benchmarks.figure import Bar, Figure
from benchmarks.processes import grid, load

PODS, CONTAINERS = 2, 2
LOADS = (("duty", 10), ("children", 20, 60))
PAGES = 5
LIST_ALL = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"


def measure() -> Iterator[Figure]:
    """Compare the three levels on several pages; processes that have ended are listed as well."""
    with ExitStack() as stack:
        made = stack.enter_context(cgroups())
        for pod in range(1, PODS + 1):
            for number in range(1, CONTAINERS + 1):
                path = f"kubepods/burstable/pod{_uid(pod)}/{pod:032x}{number:032x}"
                cgroup = made.make(path)
                for each in LOADS:
                    started = stack.enter_context(load(*each))
                    cgroup.enter(started.pid)
                    started.go()
        config = stack.enter_context(config_file(LIST_ALL))
        exporter = stack.enter_context(running("--interval", "1s", "--config.file", config))
        pages = [exporter.scrape() for _ in grid(1.0, PAGES)]
    errors = [error for page in pages for error in _errors(page)]
    details = {"pods": PODS, "containers": PODS * CONTAINERS, "pages": PAGES}
    also = len(errors) >= PODS * PAGES
    yield Figure("pod_sum_error", max(errors), "ratio", Bar(1e-9), details, also=also)


def _errors(page: Scrape) -> Iterator[float]:
    """Each pod's relative difference between the levels."""
    processes = page.by("container_id", "kepler_process_cpu_joules_total")
    for pod_id, joules in page.by("pod_id", "kepler_pod_cpu_joules_total").items():
        in_pod = page.by("container_id", "kepler_container_cpu_joules_total", pod_id=pod_id)
        own = sum(processes.get(id_, 0.0) for id_ in in_pod)
        yield max(abs(sum(in_pod.values()) - joules), abs(own - joules)) / joules


def _uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"
