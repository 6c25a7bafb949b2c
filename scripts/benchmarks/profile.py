"""How exact `profile` is, what it misses, and what it costs, on a program of known functions."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS, ROOT, compiled, two_cpus, working
from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.config.options import Config
from kepler_ebpf.kernel.libbpf import enable_stats, program_figures
from kepler_ebpf.kernel.samples import ring_bytes
from kepler_ebpf.model.arrays import Bools, Floats, Records
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.names import ExecEvent
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.profile.model import Frame, Origin, Profile
from kepler_ebpf.profile.recorder import Recorder
from kepler_ebpf.profile.result import About, profile_of
from kepler_ebpf.profile.symbols.names import Names
from kepler_ebpf.stat.tally import Select
from kepler_ebpf.wiring.profile import STEP_S
from kepler_ebpf.wiring.session import open_session

PROGRAM = ROOT / "tests/support/two_functions.c"
HOT_PART = 0.7
KNOWN_MS, KNOWN_HZ = 4000, 997
CHILDREN, CHILD_MS, SHORT_HZ = 2000, 5, 499
MISSED_S, COST_S, COST_HZ = 10.0, 15.0, 99
MAX_RSS_MB = 150


@dataclass(frozen=True, slots=True)
class Taken:
    """A profile, with what the account has: energy (kinds,) of what was profiled, and our CPU."""

    profile: Profile
    account_uj: Floats
    own_cpu_s: float
    bpf_ns: int

    @property
    def energy_uj(self) -> Floats:
        """Energy of each row, of the first kind of zone."""
        return self.profile.rows.energy_uj[:, 0]

    def share(self, is_wanted: Callable[[Sequence[Frame]], bool]) -> float:
        """Return the part of the energy in stacks that are wanted."""
        frames = self.profile.frames
        stacks = ([frames[number] for number in stack] for stack in self.profile.stacks)
        chosen = np.array([is_wanted(stack) for stack in stacks], bool)
        return float(self.energy_uj[chosen[self.profile.rows.stack]].sum() / self.energy_uj.sum())


def known() -> Iterator[Figure]:
    """Profile two functions of which one uses 70 % of the time, and compare with the account."""
    with compiled(PROGRAM) as program:
        taken = _taken([program, str(KNOWN_MS)], KNOWN_HZ)
    hot, warm = taken.share(_calls("hot")), taken.share(_calls("warm"))
    hot /= hot + warm
    samples = int(taken.profile.rows.samples.sum())
    details = {"hot_of_both": rounded(hot), "samples": samples}
    points = 100 * abs(hot - HOT_PART)
    yield Figure("profile_known", points, "points", Bar(3), details, samples >= KNOWN_MS / 2)
    yield _sum(taken)


def short() -> Iterator[Figure]:
    """Profile 2,000 children of 5 ms, forked and forked to exec: how much has a name."""
    with compiled(PROGRAM) as program:
        ways = {
            way: _taken([program, str(CHILD_MS), way, str(CHILDREN)], SHORT_HZ)
            for way in ("fork", "exec")
        }
    details: dict[str, object] = {}
    for way, taken in ways.items():
        details[way] = rounded(taken.share(_has_name))
        details[f"{way}_functions"] = rounded(taken.share(_has_function))
        details[f"{way}_samples"] = int(taken.profile.rows.samples.sum())
        details[f"{way}_sum_error"] = rounded(_sum(taken).value)
    least = min(float(str(details[way])) for way in ways)
    yield Figure("profile_short", least, "ratio", Bar(0.95, at_least=True), details)


def missed() -> Iterator[Figure]:
    """Sample all tasks at a high rate beside storms of processes: what the ring had no room for."""
    with ExitStack() as stack:
        for cpu in two_cpus():
            stack.enter_context(working("commands", 10_000_000, cpu=cpu))
        taken = _taken(None, KNOWN_HZ, MISSED_S)
    counts, samples = taken.profile.counts, int(taken.profile.rows.samples.sum())
    lost = counts["samples lost"]
    details = {"samples": samples, "stacks": len(taken.profile.stacks), **counts}
    yield Figure("profile_missed", lost / max(samples + lost, 1), "ratio", Bar(0.005), details)


def cost() -> Iterator[Figure]:
    """Sample all tasks at 99 Hz beside two busy CPUs: CPU time of both sides, and memory."""
    with compiled(PROGRAM) as program, ExitStack() as stack:
        for _ in two_cpus():
            stack.callback(_kill, subprocess.Popen([program, "1000000"]))
        taken = _taken(None, COST_HZ, COST_S)
        rss_mb = _rss_mb("-a", "--duration", str(COST_S / 3), "-o", "/dev/null", "--format", "html")
    cpus = os.cpu_count() or 1
    kernel_s = taken.bpf_ns / 1e9
    each_cpu = 100 * (kernel_s + taken.own_cpu_s) / COST_S / cpus
    details = {
        "kernel_side": rounded(100 * kernel_s / COST_S / cpus),
        "rss_mb": rounded(rss_mb),
        "samples": int(taken.profile.rows.samples.sum()),
    }
    also = rss_mb <= MAX_RSS_MB
    yield Figure("profile_cost", each_cpu, "% of each CPU", Bar(1), details, also)


def _sum(taken: Taken) -> Figure:
    picture_uj = taken.profile.rows.energy_uj.sum(axis=0)
    error = float(np.abs(picture_uj / taken.account_uj - 1).max())
    return Figure("profile_sum", error, "ratio", Bar(1e-9))


def _calls(function: str) -> Callable[[Sequence[Frame]], bool]:
    return lambda stack: any(frame.name == function for frame in stack)


def _has_name(stack: Sequence[Frame]) -> bool:
    """Tell whether the innermost frame is of a known program, library or of the kernel."""
    return bool(stack[-1].module) or stack[-1].origin is Origin.KERNEL


def _has_function(stack: Sequence[Frame]) -> bool:
    return not stack[-1].name.startswith("[")


class _Account:
    """What the account has for the tasks that a recorder profiles, or for the machine."""

    def __init__(self, recorder: Recorder, zones: tuple[Zone, ...], select: Select | None) -> None:
        self._recorder, self._zones, self._select = recorder, zones, select
        self._parts: list[tuple[float, Floats]] = []
        self.cpu_s = 0.0
        """CPU time that was used in here, and is none of the recorder's."""

    def take(self, measured: Measured, execs: list[ExecEvent]) -> None:
        """Take in an interval; the first is that before what is profiled."""
        self._recorder.take(measured, execs)
        began_s = time.process_time()
        found, kinds = attribute(measured, self._zones), zone_kinds(self._zones)
        if self._select:
            chosen = self._select(measured.records)
            uj, cpu_ns = found.shares_uj[chosen], measured.records["cpu_ns"][chosen]
        else:
            columns = np.array([[zone.kind == kind for kind in kinds] for zone in self._zones])
            uj, cpu_ns = found.active_uj @ columns, measured.records["cpu_ns"]
        self._parts.append((float(cpu_ns.sum()), uj.sum(axis=0)))
        self.cpu_s += time.process_time() - began_s

    def energy_uj(self, before_exec_ns: int) -> Floats:
        """Return the energy (kinds,), without what a command has used before its exec."""
        (first_ns, first_uj), *_ = parts = self._parts[1:]
        return sum((uj for _, uj in parts), -first_uj * (before_exec_ns / first_ns))


def _taken(command: Sequence[str] | None, frequency_hz: int, length_s: float = 0) -> Taken:
    """Profile a command, or all tasks for so long."""
    with ExitStack() as stack:
        stack.callback(os.close, enable_stats())
        ring = ring_bytes(os.cpu_count() or 1, frequency_hz, STEP_S)
        opened = open_session(stack, Config(bpf_loader="core", meter="fake"), ring)
        meter, tracker, jobs = opened.measuring.meter, opened.measuring.tracker, opened.jobs
        names, kinds, select = Names(), zone_kinds(meter.zones), jobs.select if command else _all
        recorder = Recorder(tracker, meter.zones, select, names, with_unowned=not command)
        account = _Account(recorder, meter.zones, select if command else None)
        opened.session.taken, opened.session.step_s = account.take, STEP_S
        recorder.samples.start(frequency_hz, everything=not command)
        own_s, end_s = time.process_time(), time.monotonic() + length_s
        if command:
            opened.session.run(command, None, jobs)
        else:
            opened.session.attach(select, lambda wait_s: _wait(wait_s, end_s))
        own_s = time.process_time() - own_s - account.cpu_s
        recorder.samples.stop()
        bpf_ns, _, _ = program_figures([tracker.programs["on_sample"]])
        about = About("it", kinds, kinds[0], meter.stats, frequency_hz, {})
        profile = profile_of(recorder, names, about)
        before_exec_ns = jobs.pre_exec_ns if command else 0
    return Taken(profile, account.energy_uj(before_exec_ns), own_s, bpf_ns)


def _all(records: Records) -> Bools:
    return np.ones(len(records), bool)


def _wait(wait_s: float, end_s: float) -> bool:
    time.sleep(wait_s)
    return time.monotonic() >= end_s


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _rss_mb(*arguments: str) -> float:
    """Return the highest resident memory of a `profile`."""
    process = subprocess.Popen(
        [OURS.python, "-m", "kepler_ebpf", "profile", *arguments],
        cwd=OURS.root,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"profile ended with status {process.returncode}")
    return used.ru_maxrss / 1024
