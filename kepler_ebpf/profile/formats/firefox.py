"""JSON for the Firefox Profiler: CPU time by thread and function, and a power track per process.

The version of the format is an old one, which the viewer upgrades: it refuses a version that is
newer than itself. Its call tree has no unit of energy, so its weights are CPU time.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kepler_ebpf import __version__
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.profile.formats.caption import facts, remarks, title
from kepler_ebpf.profile.formats.firefox_tables import CATEGORIES, StackTables
from kepler_ebpf.profile.formats.merged import whole
from kepler_ebpf.profile.formats.power import Track, tracked, tracks
from kepler_ebpf.profile.model import Process, Profile

VERSION = 48
PWH_PER_UJ = 1e3 / 3.6
"""1 Wh is 3,600 J."""

NS_PER_MS = 1_000_000
MS_PER_S = 1000
NO_MARKERS = {
    **{name: [] for name in ("data", "name", "startTime", "endTime", "phase", "category")},
    "length": 0,
}


def write(profile: Profile, kind: str) -> bytes:
    """Return the JSON, compressed. The tracks show the energy of *kind*."""
    processes, owner = tracked(profile, kind)
    pids = _pids(processes)
    threads, main = _threads(profile, processes, pids, owner)
    document = {
        "meta": _meta(profile, kind),
        "libs": [],
        "pages": [],
        "threads": threads,
        "counters": [
            _counter(profile, kind, track, pid, main.get(pid, 0))
            for track, pid in zip(tracks(profile, kind), pids, strict=True)
        ],
    }
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)


def _pids(processes: Sequence[Process]) -> list[str]:
    """Return a word for each process: its pid, and a count where another had the same."""
    seen: Counter[int] = Counter()
    words = []
    for process in processes:
        before = seen[process.pid]
        words.append(f"{process.pid}.{before}" if before else str(process.pid))
        seen[process.pid] += 1
    return words


def _meta(profile: Profile, kind: str) -> dict[str, Any]:
    lines = [*facts(profile, kind), *remarks(profile)]
    return {
        "version": 27,
        "preprocessedProfileVersion": VERSION,
        "product": title(profile, kind),
        "importedFrom": f"kepler-ebpf {__version__}",
        "processType": 0,
        "stackwalk": 1,
        "interval": MS_PER_S / max(1, profile.frequency_hz),
        "startTime": profile.began_at_s * MS_PER_S,
        "symbolicated": True,
        "categories": CATEGORIES,
        "markerSchema": [],
        "sampleUnits": {"time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns"},
        "extra": [
            {
                "label": "kepler-ebpf",
                "entries": [
                    {"label": str(number), "format": "string", "value": line}
                    for number, line in enumerate(lines, 1)
                ],
            }
        ],
    }


def _threads(
    profile: Profile, processes: Sequence[Process], pids: Sequence[str], owner: Ints
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """Return a thread for each task, and where the first one of each process is: its leader."""
    rows = profile.rows
    leader = np.array([process.pid for process in profile.processes], np.int64)[rows.process]
    order = np.lexsort((rows.stack, rows.interval, rows.tid, rows.tid != leader, owner))
    cuts = np.flatnonzero(np.diff(owner[order]) | np.diff(rows.tid[order])) + 1
    cpu_ns = whole(rows.cpu_ns)
    threads: list[dict[str, Any]] = []
    main: dict[str, int] = {}
    for part in np.split(order, cuts) if len(order) else []:
        process, pid = processes[owner[part[0]]], pids[owner[part[0]]]
        is_main = main.setdefault(pid, len(threads)) == len(threads)
        tables = StackTables(profile)
        samples = _samples(profile, part, cpu_ns[part], tables)
        threads.append(
            {
                "processType": "default",
                "processName": process.comm,
                "processStartupTime": 0,
                "processShutdownTime": None,
                "registerTime": 0,
                "unregisterTime": None,
                "pausedRanges": [],
                "name": process.comm,
                "isMainThread": is_main,
                "pid": pid,
                "tid": int(rows.tid[part[0]]),
                "samples": samples,
                "markers": NO_MARKERS,
                **tables.columns(),
            }
        )
    return threads, main


def _samples(profile: Profile, part: Ints, cpu_ns: Ints, tables: StackTables) -> dict[str, Any]:
    """Return the samples of one thread. Those of an interval share it by their CPU time."""
    interval = profile.rows.interval[part]
    first = np.flatnonzero(np.diff(interval, prepend=-1))
    lengths = np.diff(first, append=len(part))
    until = np.cumsum(cpu_ns)
    before = np.repeat(until[first] - cpu_ns[first], lengths)
    of_interval = np.repeat(np.add.reduceat(cpu_ns, first), lengths)
    share = (until - before) / np.maximum(1, of_interval)
    start_ns, end_ns = profile.start_ns[interval], profile.end_ns[interval]
    time_ms = (start_ns - profile.start_ns[0] + share * (end_ns - start_ns)) / NS_PER_MS
    return {
        "stack": [tables.stack(stack) for stack in profile.rows.stack[part].tolist()],
        "time": [round(time, 3) for time in time_ms.tolist()],
        "weight": [value / NS_PER_MS for value in cpu_ns.tolist()],
        "weightType": "tracing-ms",
        "threadCPUDelta": cpu_ns.tolist(),
        "length": len(part),
    }


def _counter(profile: Profile, kind: str, track: Track, pid: str, main: int) -> dict[str, Any]:
    mark = ", ESTIMATE" if profile.is_estimate else ""
    times, values = zip(*_values(profile, track), strict=True)
    return {
        "name": f"{track.process.comm} ({kind}{mark})",
        "category": "power",
        "description": f"{kind} energy of {track.process.comm}{mark}",
        "pid": pid,
        "mainThreadIndex": main,
        "samples": {"time": times, "count": values, "length": len(times)},
    }


def _values(profile: Profile, track: Track) -> Iterator[tuple[float, float]]:
    """Return times and the energy since the time before; the first is 0."""
    end_ns = base_ns = int(profile.start_ns[0]) if len(profile.start_ns) else 0
    yield 0.0, 0.0
    for index, uj in zip(track.interval.tolist(), track.energy_uj.tolist(), strict=True):
        start_ns = int(profile.start_ns[index])
        if start_ns > end_ns:
            yield (start_ns - base_ns) / NS_PER_MS, 0.0
        end_ns = int(profile.end_ns[index])
        yield (end_ns - base_ns) / NS_PER_MS, uj * PWH_PER_UJ
