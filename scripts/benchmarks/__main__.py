"""`scripts/bench [--base DIR] [--share PART] [FIGURE...]`: measures all figures or the named ones.

Prints one JSON object for each figure. With ``--base`` each that costs something is compared with
that of another checkout, which `scripts/bench` or `scripts/run` has set up.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import (
    accounting,
    forkstorm,
    hog,
    hostile,
    hostile_clients,
    jobs,
    kube_memory,
    kube_outage,
    memory,
    metadata,
    page_bytes,
    pages,
    pods,
    product_lines,
    profile,
    profile_names,
    rate,
    recording,
    residual,
    serving,
    shares,
    short_containers,
    short_exe,
    soak,
    soak_scrapes,
    startup,
    stat,
    stat_children,
    stat_switch,
    storm,
    switch_cost,
    tick_cost,
    top,
    wakeups,
)
from benchmarks.figure import Measure, host_facts, rounded, stolen_s
from benchmarks.length import shorten
from benchmarks.pairing import PAIRS, compare
from benchmarks.processes import Checkout
from kepler_ebpf.errors import KeplerError

FIGURES: dict[str, Measure] = {
    "product_lines": product_lines.measure,
    "bpf_ns_per_switch": switch_cost.measure,
    "accounting_error": accounting.measure,
    "forkstorm_attributed": forkstorm.measure,
    "hog_error": hog.measure,
    "energy_residual": residual.measure,
    "share_error": shares.measure,
    "storm_share": storm.measure,
    "pages_per_interval": pages.measure,
    "pages_per_interval_2000": pages.measure,
    "page_bytes": page_bytes.measure,
    "wakeups_per_s": wakeups.measure,
    "tick_cpu_ms_100_idle": tick_cost.measure,
    "tick_cpu_ms_10000_idle": tick_cost.measure,
    "rate_100hz": rate.measure,
    "rss_mb": memory.measure,
    "first_metrics_s": startup.measure,
    "first_metrics_s_all": startup.measure_all,
    "short_containers_attributed": short_containers.measure,
    "short_exe": short_exe.measure,
    "pod_sum_error": pods.measure,
    "metadata_cost": metadata.measure,
    "k8s_rss_mb": kube_memory.measure,
    "api_outage": kube_outage.measure,
    "soak": soak.measure,
    "soak_scrapes": soak_scrapes.measure,
    "soak_scrapes_top_n": soak_scrapes.measure,
    **hostile.MEASURES,
    "hostile_start": hostile.start,
    "stat_children": stat_children.measure,
    "stat_neighbour": stat.neighbour,
    "stat_startup": stat.startup,
    "stat_switch_ns": stat_switch.measure,
    "stat_fork_us": stat.forks,
    "two_at_once": stat.two_at_once,
    "profile_known": profile.known,
    "profile_sum": profile.known,
    "profile_short": profile.short,
    "profile_missed": profile.missed,
    "profile_cost": profile.cost,
    "top_cost": top.cost,
    "record_10ms": recording.record_10ms,
    "record_damage": recording.record_damage,
    "replay_identity": recording.replay_identity,
    "profile_names": profile_names.measure,
    "job_cost": jobs.jobs,
    "scrape_ms_10k": serving.measure,
    "scrape_ms_10k_gzip": serving.measure,
    "scrape_ms_10k_tls": serving.measure,
    "scrape_ms_10k_tls_gzip": serving.measure,
    "rss_mb_10k": serving.measure,
    "lateness_under_scrape": serving.lateness,
    "idle_tls_mb": hostile_clients.idle_tls,
    "idle_tls_mb_silent": hostile_clients.idle_tls,
    "wrong_passwords": hostile_clients.wrong_passwords,
}


FAILURES = (KeplerError, OSError, RuntimeError, subprocess.SubprocessError)
"""What a host can lack or do; one figure's failure does not take the others along."""


def main() -> None:
    """Print each figure as soon as it is there; exit 1 if one misses its bar or fails."""
    parser = argparse.ArgumentParser("scripts/bench")
    parser.add_argument("--base", type=Path, metavar="DIR", help="compare with this checkout")
    parser.add_argument("figures", nargs="*", metavar="FIGURE")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="part of the time of the long ones, as 0.1",
    )
    arguments = parser.parse_args()
    shorten(arguments.share)
    measures = FIGURES
    if arguments.base:
        base = Checkout(arguments.base.resolve())
        measures = {name: partial(compare, name, base) for name in PAIRS}
    unknown = [name for name in arguments.figures if name not in measures]
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}; there are: {', '.join(measures)}")
    signal.signal(signal.SIGTERM, _end)
    # What is installed has its bytecode: from the second start on, so has what is measured.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    missed = _measure_all({name: measures[name] for name in arguments.figures or measures})
    if missed:
        sys.exit(f"bars missed: {', '.join(dict.fromkeys(missed))}")


def _measure_all(measures: dict[str, Measure]) -> list[str]:
    """Measure each once, whatever number of figures it gives; return those that are missed."""
    missed: list[str] = []
    for measure in dict.fromkeys(measures.values()):
        try:
            missed += _report(measure)
        except FAILURES as error:
            names = [name for name, each in measures.items() if each is measure]
            missed += _report_failure(names, error)
    return missed


def _report(measure: Measure) -> list[str]:
    """Print the figures of one measurement; return the names of those that miss their bar."""
    host, missed, before_s = host_facts(), [], stolen_s()
    for figure in measure():
        stolen = {"stolen_cpu_s": rounded(stolen_s() - before_s)}
        print(figure.to_json(host | stolen), flush=True)
        if not figure.met:
            missed.append(figure.name)
    return missed


def _report_failure(names: Iterable[str], error: Exception) -> list[str]:
    for name in names:
        print(json.dumps({"figure": name, "met": False, "error": str(error)}), flush=True)
    return list(names)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that everything that was started is ended.
    sys.exit("ended by SIGTERM")


if __name__ == "__main__":
    main()
