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

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.processes import OURS, cpu_clock_s, two_cpus, working
from kepler_ebpf.model.usage import Interval
from kepler_ebpf.recording.reader import open_recording

SECONDS = 60.0
SETTLE_S = 3.0
MIN_ROWS_PER_S, MAX_BYTES_PER_ROW, MAX_MB = 10_000, 12.0, 20.0
MAX_LOST = 0.001


def record_10ms() -> Iterator[Figure]:
    """Record beside a fork storm on two CPUs for a minute."""
    seconds = scaled(SECONDS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder, "storm.arrows")
        for cpu in two_cpus():
            stack.enter_context(working("children", 0, 2 * seconds + 60, cpu=cpu))
        process = stack.enter_context(_recorder(path))
        time.sleep(SETTLE_S)
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


def _recorder(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [OURS.python, "-m", "kepler_ebpf", "record", "-o", str(path), "--meter", "estimate"]
    return subprocess.Popen(
        [*command, "--interval", "10ms", *arguments], cwd=OURS.root, stderr=subprocess.DEVNULL
    )
