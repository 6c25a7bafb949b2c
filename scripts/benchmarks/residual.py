"""energy_residual: every microjoule that the meter gave is in exactly one place."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.exporter import Scrape
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.powercap import driven_tree
from benchmarks.processes import two_cpus, working
from benchmarks.watched import watched

SECONDS = 5.0


def measure() -> Iterator[Figure]:
    """Run at 100 ms over a driven powercap tree and a fork storm; check meter, tasks and page."""
    first, _ = two_cpus()
    with driven_tree("single_socket") as sysfs, working("commands", 0, cpu=first):
        arguments = ("--interval", "100ms", "--meter", "rapl", "--host.sysfs", sysfs)
        with watched("residual", *arguments) as watch:
            window = watch.collect(SECONDS)
            page = watch.exporter.scrape()
            ratios = watch.numbers(window)
    details = {
        "snapshots": len(ratios),
        "worst_on_page": rounded(_page_residual(page)),
        "exported": page.total("kepler_ebpf_residual_ratio"),
    }
    value = max(*ratios, _page_residual(page))
    yield Figure("energy_residual", value, "ratio", Bar(1e-9), details, also=len(ratios) > 1)


def _page_residual(page: Scrape) -> float:
    """Totals on one page: processes, retired ones, unattributed and idle against the zones."""
    read = page.by("zone", "kepler_ebpf_zone_joules_total")
    idle = page.by("zone", "kepler_ebpf_zone_joules_total", split="idle")
    nobody = page.by("zone", "kepler_ebpf_unattributed_joules_total")
    listed = page.by("zone", "kepler_process_cpu_joules_total")
    retired = page.by("zone", "kepler_ebpf_retired_joules_total", level="process")
    placed = {
        zone: sum(part.get(zone, 0.0) for part in (idle, nobody, listed, retired)) for zone in read
    }
    return max(abs(placed[zone] / joules - 1) for zone, joules in read.items())
