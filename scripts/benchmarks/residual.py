"""energy_residual: every microjoule that the meter gave is in exactly one place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.exporter import Scrape, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.measuring import measuring
from benchmarks.powercap import driven_tree
from benchmarks.processes import grid, two_cpus, working
from kepler_ebpf.attribution import attribute
from kepler_ebpf.config.options import Config

INTERVAL_S = 0.1
INTERVALS = 50


def measure() -> Iterator[Figure]:
    """Run at 100 ms over a driven powercap tree and a fork storm; check intervals and a page."""
    first, _ = two_cpus()
    with driven_tree("single_socket") as sysfs, working("commands", 0, cpu=first):
        ratios = list(_interval_residuals(sysfs))
        arguments = ("--interval", "100ms", "--meter", "rapl", "--host.sysfs", sysfs)
        with running(*arguments) as exporter:
            time.sleep(INTERVALS * INTERVAL_S)
            page = exporter.scrape()
    details = {
        "intervals": len(ratios),
        "worst_interval": rounded(max(ratios)),
        "worst_on_page": rounded(_page_residual(page)),
        "exported": page.total("kepler_ebpf_residual_ratio"),
    }
    yield Figure("energy_residual", max(*ratios, _page_residual(page)), "ratio", Bar(1e-9), details)


def _interval_residuals(sysfs: str) -> Iterator[float]:
    """In each interval, by kind: tasks, idle and nobody against what the meter gave."""
    with measuring(Config(bpf_loader="core", meter="rapl", sysfs=sysfs)) as intervals:
        for _ in grid(INTERVAL_S, INTERVALS):
            measured = intervals.next()
            given = attribute(measured, intervals.zones)
            columns = [[zone.kind == kind for kind in given.kinds] for zone in intervals.zones]
            ownerless_uj = given.idle_uj.sum(axis=0) + given.unattributed_uj.sum(axis=0)
            placed_uj = given.shares_uj.sum(axis=0) + ownerless_uj @ columns
            drawn_uj = np.array(measured.intervals[0].energy_uj) @ columns
            yield float(np.max(np.abs(placed_uj - drawn_uj) / np.maximum(drawn_uj, 1.0)))


def _page_residual(page: Scrape) -> float:
    """Totals on one page: processes, unattributed and idle against the zones."""
    read = page.by("zone", "kepler_ebpf_zone_joules_total")
    idle = page.by("zone", "kepler_ebpf_zone_joules_total", split="idle")
    nobody = page.by("zone", "kepler_ebpf_unattributed_joules_total")
    listed = page.by("zone", "kepler_process_cpu_joules_total")
    placed = {zone: sum(part.get(zone, 0.0) for part in (idle, nobody, listed)) for zone in read}
    return max(abs(placed[zone] / joules - 1) for zone, joules in read.items())
