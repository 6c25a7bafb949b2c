"""`scripts/bench [FIGURE...]`: measures all figures or the named ones, one JSON object each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from benchmarks import (
    accounting,
    forkstorm,
    hog,
    kube_memory,
    kube_outage,
    memory,
    metadata,
    pods,
    rate,
    residual,
    shares,
    short_containers,
    startup,
    storm,
    switch_cost,
    tick_cost,
)
from benchmarks.figure import Measure, host_facts, rounded, stolen_s
from kepler_ebpf.errors import KeplerError

FIGURES: dict[str, Measure] = {
    "bpf_ns_per_switch": switch_cost.measure,
    "accounting_error": accounting.measure,
    "forkstorm_attributed": forkstorm.measure,
    "hog_error": hog.measure,
    "energy_residual": residual.measure,
    "share_error": shares.measure,
    "storm_share": storm.measure,
    "tick_cpu_ms_100_idle": tick_cost.measure,
    "tick_cpu_ms_10000_idle": tick_cost.measure,
    "rate_100hz": rate.measure,
    "rss_mb": memory.measure,
    "first_metrics_s": startup.measure,
    "short_containers_attributed": short_containers.measure,
    "pod_sum_error": pods.measure,
    "metadata_cost": metadata.measure,
    "k8s_rss_mb": kube_memory.measure,
    "api_outage": kube_outage.measure,
}


FAILURES = (KeplerError, OSError, RuntimeError, subprocess.SubprocessError)
"""What a host can lack or do; one figure's failure does not take the others along."""


def main() -> None:
    """Print each figure as soon as it is there; exit 1 if one misses its bar or fails."""
    wanted = sys.argv[1:] or list(FIGURES)
    unknown = [name for name in wanted if name not in FIGURES]
    if unknown:
        sys.exit(f"no such figure: {', '.join(unknown)}; there are: {', '.join(FIGURES)}")
    signal.signal(signal.SIGTERM, _end)
    missed: list[str] = []
    for measure in dict.fromkeys(FIGURES[name] for name in wanted):
        try:
            missed += _report(measure)
        except FAILURES as error:
            missed += _report_failure(measure, error)
    if missed:
        sys.exit(f"bars missed: {', '.join(missed)}")


def _report(measure: Measure) -> list[str]:
    """Print the figures of one measurement; return the names of those that miss their bar."""
    host, missed, before_s = host_facts(), [], stolen_s()
    for figure in measure():
        stolen = {"stolen_cpu_s": rounded(stolen_s() - before_s)}
        print(figure.to_json(host | stolen), flush=True)
        if not figure.met:
            missed.append(figure.name)
    return missed


def _report_failure(measure: Measure, error: Exception) -> list[str]:
    names = [name for name, each in FIGURES.items() if each is measure]
    for name in names:
        print(json.dumps({"figure": name, "met": False, "error": str(error)}), flush=True)
    return names


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that everything that was started is ended.
    sys.exit("ended by SIGTERM")


if __name__ == "__main__":
    main()
