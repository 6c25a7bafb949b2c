"""bpf_ns_per_switch: what the programs cost each context switch, by the kernel's statistics."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections.abc import Iterator

from benchmarks.account import cpu_time_tracker
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import two_cpus
from kepler_ebpf.kernel.libbpf import enable_stats

OPERATIONS = 100_000
ROUNDS = 3


def measure() -> Iterator[Figure]:
    """Send messages through a pipe, with and without the programs, on one CPU and on two."""
    first, second = two_cpus()
    shared, apart = f"{first}", f"{first},{second}"
    ns = {cpus: _ns_per_run(cpus) for cpus in (shared, apart)}
    details: Details = {
        "one_cpu_ns": rounded(ns[shared]),
        "two_cpus_ns": rounded(ns[apart]),
        **_pipe_with_and_without(shared),
    }
    yield Figure("bpf_ns_per_switch", max(ns.values()), "ns", Bar(250), details)


def _ns_per_run(cpus: str) -> float:
    """Run time of the programs for each run, the statistics' own cost included."""
    with cpu_time_tracker() as account:
        descriptor = enable_stats()
        try:
            before = account.stats()
            _pipe_us(cpus)
            after = account.stats()
        finally:
            os.close(descriptor)
    return (after.run_ns - before.run_ns) / (after.run_count - before.run_count)


def _pipe_with_and_without(cpus: str) -> Details:
    """Time of a message without the programs and with them, statistics off, turn by turn."""
    without_us, with_us = [], []
    for _ in range(ROUNDS):
        without_us.append(_pipe_us(cpus))
        with cpu_time_tracker():
            with_us.append(_pipe_us(cpus))
    medians = statistics.median(without_us), statistics.median(with_us)
    return {
        "pipe_us_without": rounded(medians[0]),
        "pipe_us_with": rounded(medians[1]),
        "pipe_ratio": rounded(medians[1] / medians[0]),
    }


def _pipe_us(cpus: str) -> float:
    command = ["taskset", "-c", cpus, "perf", "bench", "sched", "pipe", "-l", f"{OPERATIONS}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d.]+) usecs/op", output)
    if found is None:
        raise RuntimeError(f"perf bench said: {output}")
    return float(found[1])
