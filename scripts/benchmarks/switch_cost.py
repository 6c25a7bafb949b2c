"""bpf_ns_per_switch: what the programs cost each context switch, by the kernel's statistics."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exporter import running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import OURS, Checkout, load, two_cpus
from kepler_ebpf.kernel.libbpf import enable_stats

OPERATIONS = 100_000
COMMANDS = 1_000
ROUNDS = 3
PIPES = ("one_cpu_ns", "two_cpus_ns")

_RUN_NS = re.compile(r"^run_time_ns:\t(\d+)$", re.MULTILINE)
_RUN_COUNT = re.compile(r"^run_cnt:\t(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of a process's BPF programs, and the time in them, the statistics' own included."""

    ns: int
    count: int


def measure() -> Iterator[Figure]:
    """Send messages through a pipe, with and without the programs, on one CPU and on two."""
    ns = _ns(OURS)
    details: Details = {
        **{name: rounded(figure) for name, figure in ns.items()},
        **_pipe_with_and_without(f"{two_cpus()[0]}"),
    }
    yield Figure("bpf_ns_per_switch", max(ns[name] for name in PIPES), "ns", Bar(250), details)


def sample(checkout: Checkout) -> dict[str, float]:
    """Nanoseconds of a checkout's programs for each run beside a pipe."""
    ns = _ns(checkout)
    return {name: ns[name] for name in PIPES}


def _ns(checkout: Checkout) -> dict[str, float]:
    """Return the same, and nanoseconds for each short command, its record included."""
    first, second = two_cpus()
    with running("--interval", "1s", checkout=checkout) as exporter, _statistics():
        ns = {}
        for name, cpus in zip(PIPES, (f"{first}", f"{first},{second}"), strict=True):
            before = _runs(exporter.pid)
            _pipe_us(cpus)
            after = _runs(exporter.pid)
            ns[name] = (after.ns - before.ns) / (after.count - before.count)
        before = _runs(exporter.pid)
        with load("commands", COMMANDS, cpu=first) as storm:
            storm.go()
            storm.finish()
        ns["per_command_ns"] = (_runs(exporter.pid).ns - before.ns) / COMMANDS
    return ns


@contextmanager
def _statistics() -> Iterator[None]:
    descriptor = enable_stats()
    try:
        yield
    finally:
        os.close(descriptor)


def _runs(pid: int) -> Runs:
    texts = [file.read_text("ascii") for file in Path(f"/proc/{pid}/fdinfo").iterdir()]
    ns, count = (
        sum(int(match[1]) for text in texts if (match := figure.search(text)))
        for figure in (_RUN_NS, _RUN_COUNT)
    )
    return Runs(ns, count)


def _pipe_with_and_without(cpus: str) -> Details:
    """Time of a message without the programs and with them, statistics off, turn by turn."""
    without_us, with_us = [], []
    for _ in range(ROUNDS):
        without_us.append(_pipe_us(cpus))
        with running("--interval", "1s"):
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
