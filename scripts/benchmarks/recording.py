"""What recording costs, what it loses, and whether damage is told."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.measuring import measuring
from benchmarks.processes import OURS, compiled, cpu_clock_s, grid, group, two_cpus
from kepler_ebpf.attribution import attribute
from kepler_ebpf.errors import SetupError
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Interval, Measured
from kepler_ebpf.recording.encode import Encoder
from kepler_ebpf.recording.files import PartFile
from kepler_ebpf.recording.frames import Groups, State
from kepler_ebpf.recording.reader import open_recording
from kepler_ebpf.recording.schema import Header, Mark

SECONDS = 60.0
FIRST_BYTES = 10_000
START_S = 60.0
CHILDREN = Path(__file__).with_name("children.c")
CHILDREN_PER_S = 5_500
"""On each CPU. A shell that forks does not reach it everywhere."""

MIN_ROWS_PER_S, MAX_BYTES_PER_ROW, MAX_MB = 10_000, 12.0, 20.0
MAX_LOST = 0.001
DAMAGES, KILLS, MAX_LOST_S = 3_000, 100, 2.0
IDENTITY_INTERVALS = 500


def record_10ms() -> Iterator[Figure]:
    """Record beside a fork storm on two CPUs for a minute."""
    seconds = scaled(SECONDS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder, "storm.arrows")
        process = stack.enter_context(_recorder(path))
        _await_first(path)
        storm = [stack.enter_context(compiled(CHILDREN)), str(CHILDREN_PER_S)]
        for cpu in two_cpus():
            stack.enter_context(group(["taskset", "-c", str(cpu), *storm]))
        began_s, before_s = time.monotonic(), cpu_clock_s(process.pid)
        time.sleep(seconds)
        share = (cpu_clock_s(process.pid) - before_s) / (time.monotonic() - began_s)
        process.send_signal(signal.SIGINT)
        process.wait()
        details, is_whole = _contents(path)
    also = (
        is_whole
        and details["rows_per_s"] >= MIN_ROWS_PER_S
        and details["bytes_per_row"] <= MAX_BYTES_PER_ROW
        and details["mb_a_minute"] <= MAX_MB
    )
    yield Figure("record_10ms", share, "of a core", Bar(0.1), details, also)


def record_damage() -> Iterator[Figure]:
    """Damage a recording at random, and kill its recorder at random moments."""
    rng = Random(1)  # noqa: S311  no secret
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.arrows")
        _recorder(path, "--timeout", "8").wait()
        called_whole, details = _damages(rng, path)
        lost_s: list[float] = []
        for number in range(int(scaled(KILLS))):
            state, lost = _killed(rng, Path(folder, f"{number}.arrows"))
            called_whole += state is State.COMPLETE
            lost_s.append(lost)
    details["kills"] = len(lost_s)
    details["lost_s_worst"] = rounded(max(lost_s))
    details["lost_s_median"] = rounded(float(np.median(lost_s)))
    also = not details["unreadable"] and max(lost_s) <= MAX_LOST_S
    yield Figure("record_damage", called_whole, "called whole", Bar(0), details, also)


def _damages(rng: Random, path: Path) -> tuple[int, dict[str, float]]:
    """Cut a recording, zero its end, or flip a bit; return how often it was called whole."""
    raw, header_bytes = path.read_bytes(), _header_bytes(path)
    called_whole = unreadable = of_header = 0
    for number in range(int(scaled(DAMAGES))):
        at = rng.randrange(len(raw))
        damage = raw[:at]
        if number % 3 == 1:
            damage += bytes(len(raw) - at)
        elif number % 3:
            damage += bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        path.write_bytes(damage)
        try:
            called_whole += _state(path) is State.COMPLETE and damage != raw
        except SetupError:
            of_header += at < header_bytes
            unreadable += at >= header_bytes
    counts = {"unreadable": unreadable, "told_of_the_header": of_header}
    return called_whole, {"damages": int(scaled(DAMAGES)), **counts}


def _killed(rng: Random, path: Path) -> tuple[State, float]:
    """Kill a recorder; return how its file ends, and the seconds of it that are lost."""
    with _recorder(path) as process:
        _await_first(path)
        time.sleep(2 * rng.random())
        process.kill()
        killed_s = time.time()
    recording = open_recording(path)
    *_, last = recording.batches()
    return recording.state, killed_s - float(last.ends_s[-1])


def replay_identity() -> Iterator[Figure]:
    """Attribute intervals live, and again from their recording."""
    with tempfile.TemporaryDirectory() as folder, measuring() as intervals:
        live = [intervals.next() for _ in grid(0.01, int(scaled(IDENTITY_INTERVALS)))]
        path, zones = Path(folder, "r.arrows"), intervals.zones
        part = PartFile(path, _header(zones))
        encoder = Encoder(part.frames.schema)
        for measured in live:
            part.write(part.frames.group(encoder.batch(measured, [0.0], {}), Mark()))
        part.end(Mark(is_complete=True))
        part.close()
        read = [batch.measured for batch in open_recording(path).batches()]
    worst = max(_difference(*pair, zones) for pair in zip(live, read, strict=True))
    details = {"intervals": len(live), "rows": sum(len(each.records) for each in live)}
    yield Figure("replay_identity", worst, "ratio", Bar(1e-9), details)


def _difference(one: Measured, other: Measured, zones: tuple[Zone, ...]) -> float:
    """Return by what part the figures of two differ, of each task and of the node."""
    figures = []
    for measured in (one, other):
        found, records = attribute(measured, zones), measured.records
        keys = (records["socket"], records["cgroup_id"], records["start_ns"], records["pid"])
        node = (found.active_uj, found.idle_uj, found.unattributed_uj)
        shares_uj = found.shares_uj[np.lexsort(keys)]
        figures.append(np.concatenate([shares_uj.ravel(), *map(np.ravel, node)]))
    live, again = figures
    gap = np.abs(live - again) / np.maximum(np.abs(live), 1.0)
    return float(gap.max(initial=0.0))


def _header(zones: tuple[Zone, ...]) -> Header:
    facts: Any = dict.fromkeys(("recording", "version", "model", "node", "kernel", "cpu"), "")
    facts |= dict.fromkeys(("began_s", "began_ns", "cpus", "update_s", "unit_uj", "interval_s"), 0)
    return Header(part=1, sockets=1, zones=zones, meter="estimate", is_estimate=True, **facts)


def _state(path: Path) -> State:
    recording = open_recording(path)
    for _ in recording.batches():
        pass
    return recording.state


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return len(next(iter(Groups(file))).raw)


def _contents(path: Path) -> tuple[dict[str, float], bool]:
    """Return what is in a recording, and whether all CPU time is."""
    recording = open_recording(path)
    intervals: list[Interval] = []
    busy_ns = lost_ns = owned_ns = 0
    for batch in recording.batches():
        intervals += batch.measured.intervals
        owned_ns += int(batch.measured.records["cpu_ns"].sum())
    for interval in intervals:
        busy_ns += sum(interval.usage.sockets.busy_ns)
        lost_ns += sum(interval.usage.sockets.lost_ns)
    usages = [interval.usage for interval in intervals]
    joined = all(one.end_ns == other.start_ns for one, other in pairwise(usages))
    (ending,) = recording.endings
    seconds, mark = (usages[-1].end_ns - usages[0].start_ns) / 1e9, ending.mark
    details = {
        "rows_per_s": rounded(mark.rows / seconds),
        "bytes_per_row": rounded(ending.size_bytes / mark.rows),
        "mb_a_minute": rounded(ending.size_bytes / 1e6 * 60 / seconds),
        "intervals": mark.intervals,
        "late": mark.late,
        "longest_ms": rounded(max(interval.length_s for interval in intervals) * 1e3),
        "lost_ms": rounded(lost_ns / 1e6),
        "untracked_ms": rounded(mark.untracked_ns / 1e6),
        "unaccounted": rounded(abs(busy_ns - lost_ns - owned_ns) / busy_ns),
    }
    is_whole = joined and not mark.untracked_ns and lost_ns <= MAX_LOST * busy_ns
    return details, is_whole and details["unaccounted"] <= MAX_LOST


def _await_first(path: Path) -> None:
    """Wait until there is more than a header."""
    until_s = time.monotonic() + START_S
    while not path.exists() or path.stat().st_size < FIRST_BYTES:
        if time.monotonic() > until_s:
            raise RuntimeError(f"there is no recording after {START_S:g} s")
        time.sleep(0.1)


def _recorder(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [OURS.python, "-m", "kepler_ebpf", "record", "-o", str(path), "--meter", "estimate"]
    return subprocess.Popen(
        [*command, "--interval", "10ms", *arguments], cwd=OURS.root, stderr=subprocess.DEVNULL
    )
