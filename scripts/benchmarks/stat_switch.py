"""stat_switch_ns: what `stat` costs a context switch, and whether `perf stat` costs more.

The figure is of the kernel's statistics, less what they themselves take.
"""

from __future__ import annotations

import os
import shutil
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.processes import compiled, two_cpus
from kepler_ebpf.config.options import Config
from kepler_ebpf.kernel.libbpf import (
    describe_errno,
    enable_stats,
    last_errno,
    library,
    program_figures,
)
from kepler_ebpf.wiring.session import open_session

PINGPONG = Path(__file__).with_name("pingpong.c")
ROUND_TRIPS = 200_000
ROUNDS = 9
PERF_STAT = ("perf", "stat", "-o", "/dev/null", "-e", "task-clock,context-switches,page-faults")
RAW_TRACEPOINT = 17
RETURN_0 = struct.pack("=BxxxIBxxxI", 0xB7, 0, 0x95, 0)
"""Two instructions: register 0 is 0, and exit."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes on one CPU that wake each other, and the file in which their figures are."""

    command: tuple[str, ...]
    figures: Path

    def ns(self, run: Callable[[Sequence[str]], object]) -> float:
        """Return CPU time of both for each switch, where *run* runs the command."""
        run(self.command)
        cpu_ns, switches = map(int, self.figures.read_text("ascii").split())
        return cpu_ns / switches


def measure() -> Iterator[Figure]:
    """Measure the pair alone, as a job of ours, and under `perf stat`, turn by turn."""
    with compiled(PINGPONG) as program, tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures")
        script = f'exec taskset -c {two_cpus()[0]} {program} {ROUND_TRIPS} >"$0"'
        pair = Pair(("sh", "-c", script, str(figures)), figures)
        ways = {"stat": _by_us}
        if shutil.which("perf"):
            ways["perf_stat"] = _by_perf
        more_ns: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(max(1, round(scaled(ROUNDS)))):
            alone_ns = pair.ns(_alone)
            for way, run in ways.items():
                more_ns[way].append(pair.ns(run) - alone_ns)
        ours_ns, nothing_ns = _by_statistics_ns(pair)
    added_ns = {way: rounded(statistics.median(each)) for way, each in more_ns.items()}
    details: dict[str, object] = {
        "statistics_ns": rounded(nothing_ns),
        "cpu_ns_alone": rounded(alone_ns),
        "cpu_ns_added": {"perf_stat": "perf is not installed"} | added_ns,
    }
    also = added_ns["stat"] < added_ns.get("perf_stat", 0)
    yield Figure("stat_switch_ns", ours_ns - nothing_ns, "ns", Bar(150), details, also)


def _alone(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


def _by_perf(command: Sequence[str]) -> None:
    subprocess.run([*PERF_STAT, "--", *command], check=True)


def _by_us(command: Sequence[str]) -> None:
    with ExitStack() as stack:
        opened = open_session(stack, Config(bpf_loader="core", meter="estimate"))
        opened.run(command, None)


def _by_statistics_ns(pair: Pair) -> tuple[float, float]:
    """Return the time of our program for each switch, and of one that does nothing.

    Both have what the kernel's statistics themselves take.
    """
    with ExitStack() as stack:
        opened = open_session(stack, Config(bpf_loader="core", meter="estimate"))
        programs = (opened.measuring.tracker.programs["on_switch"], _attach_nothing(stack))
        stack.callback(os.close, enable_stats())
        opened.run(pair.command, None)
        ours, nothing = (program_figures([program]) for program in programs)
    return ours[0] / ours[1], nothing[0] / nothing[1]


def _attach_nothing(stack: ExitStack) -> int:
    """Load a program that returns at once and attach it to the switch."""
    program: int = library().bpf_prog_load(RAW_TRACEPOINT, b"nothing", b"GPL", RETURN_0, 2, None)
    if program < 0:
        raise RuntimeError(f"cannot load a program: {describe_errno(last_errno())}")
    stack.callback(os.close, program)
    stack.callback(os.close, library().bpf_raw_tracepoint_open(b"sched_switch", program))
    return program
