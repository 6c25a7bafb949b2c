"""The CPU time tracker as the tests use it: opened over a loader, and loads to put on it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from truth import Stopwatch, Truth

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel import cgroup_v1
from kepler_ebpf.kernel.layout import CGROUP_V1
from kepler_ebpf.kernel.loaders import LOADERS as REGISTERED
from kepler_ebpf.kernel.loaders import choice
from kepler_ebpf.kernel.programs import LoadRequest, Programs
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.names.cgroups.hierarchy import discover

LOADERS = tuple(REGISTERED)
ENTRIES = 16384
LOADS = Path(__file__).with_name("loads.py")
SETTLE_S = 0.02
"""A process that was reaped has been switched out for the last time within this."""

_numbers = itertools.count()


# --- trackers -----------------------------------------------------------------------------------


def is_mounted(hierarchy: str) -> bool:
    """Whether *hierarchy*, "v2" or a v1 controller, is mounted on this host."""
    try:
        discover(hierarchy)
    except SetupError:
        return False
    return True


HIERARCHIES = tuple(name for name in ("cpuacct", "v2") if is_mounted(name))
"""Both on a hybrid host, v2 alone on a pure one."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """CPU time of one interval by socket, in ns; every array has shape (sockets,)."""

    busy_ns: Ints
    idle_ns: Ints
    lost_ns: Ints

    @property
    def window_ns(self) -> Ints:
        """The CPU time that existed."""
        return self.busy_ns + self.idle_ns


@dataclass(frozen=True, slots=True)
class Taken:
    """One closed interval with its records."""

    start_ns: int
    end_ns: int
    wall_ns: int
    sockets: Sockets
    tasks: Records


class Tracker(CpuTimeTracker):
    """A tracker that closes an interval, drains it and takes its records in one call."""

    def interval(self) -> Taken:
        """Return the interval that ends now."""
        self.close_interval()
        usage = self.drain()
        sockets = usage.sockets
        times = (sockets.busy_ns, sockets.idle_ns, sockets.lost_ns)
        arrays = Sockets(*(np.array(values, np.int64) for values in times))
        records = self.take_records(usage.record_count)
        return Taken(usage.start_ns, usage.end_ns, usage.wall_ns, arrays, records)


@contextmanager
def loaded(
    loader_name: str,
    entries: int = ENTRIES,
    hierarchy: str = HIERARCHIES[0],
    extra_cpus: int = 0,
    *,
    with_jobs: bool = False,
    samples_bytes: int = 0,
) -> Iterator[tuple[Programs, Topology]]:
    """Load and attach nothing yet; unload in the end."""
    subsys = None if hierarchy == "v2" else cgroup_v1.subsys_index(hierarchy)
    with Topology() as topology:
        cpus = len(topology.socket_of) + extra_cpus
        request = LoadRequest(cpus, entries, subsys, with_jobs, samples_bytes)
        programs = choice.load(loader_name, request)
        try:
            yield programs, topology
        finally:
            programs.close()


@contextmanager
def opened(
    loader_name: str,
    entries: int = ENTRIES,
    hierarchy: str = HIERARCHIES[0],
    *,
    with_jobs: bool = False,
    samples_bytes: int = 0,
) -> Iterator[Tracker]:
    """Load, attach and start; close in the end."""
    with loaded(
        loader_name, entries, hierarchy, with_jobs=with_jobs, samples_bytes=samples_bytes
    ) as (programs, topology):
        tracker = Tracker(programs, topology, entries)
        tracker.start(0 if hierarchy == "v2" else cgroup_v1.hierarchy_id(hierarchy))
        yield tracker
        tracker.close()


# --- intervals ----------------------------------------------------------------------------------


def unbalanced_ns(usage: Taken) -> Ints:
    """What is missing in tasks + lost = busy, by socket; zeros when nothing is."""
    by_socket = np.zeros(len(usage.sockets.busy_ns), np.int64)
    np.add.at(by_socket, usage.tasks["socket"], usage.tasks["cpu_ns"].astype(np.int64))
    rest: Ints = by_socket + usage.sockets.lost_ns - usage.sockets.busy_ns
    return rest


def collect(tracker: Tracker, seconds: float, every_s: float = 0.02) -> list[Taken]:
    """Take intervals for so long."""
    end = time.monotonic() + seconds
    usages = []
    while time.monotonic() < end:
        time.sleep(every_s)
        usages.append(tracker.interval())
    return usages


def settled(tracker: Tracker) -> Taken:
    """Close an interval in which whoever has just ended was also switched out for good."""
    time.sleep(SETTLE_S)
    return tracker.interval()


def joined(usages: list[Taken]) -> Records:
    """Put the records of several intervals one after the other."""
    return np.concatenate([usage.tasks for usage in usages])


def of(tasks: Records, **wanted: object) -> Records:
    """The records whose fields have the values wanted."""
    for field, value in wanted.items():
        tasks = tasks[tasks[field] == value]
    return tasks


def cpu_ns(tasks: Records) -> int:
    """Sum what the records were charged."""
    return int(tasks["cpu_ns"].sum())


def lost_ns(*usages: Taken) -> int:
    """Sum what nobody could be charged for."""
    return sum(int(usage.sockets.lost_ns.sum()) for usage in usages)


def identities(tasks: Records) -> set[tuple[int, int]]:
    """The processes in the records, as (tgid, start)."""
    return set(zip(tasks["tgid"].tolist(), tasks["process_start_ns"].tolist(), strict=True))


# --- loads --------------------------------------------------------------------------------------


class Load:
    """One of the loads of ``loads.py`` as a process, waiting for its first line."""

    def __init__(self, name: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-ISS", LOADS, name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._stopwatch = Stopwatch()
        self.said = self.acknowledge()
        """The first line."""

    def acknowledge(self) -> str:
        """Wait until the load waits, and return its line."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        """Let it go on to its next wait or its end."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def step(self) -> str:
        """Let it go on, and wait until it waits again; return its line."""
        self.go()
        return self.acknowledge()

    def end(self) -> Truth:
        """Wait for its end and return the CPU time that the kernel has counted for it."""
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        used_ns = int((used.ru_utime + used.ru_stime) * 1e9)
        return self._stopwatch.truth(used_ns)

    def pin(self, cpu: int) -> None:
        """Let it and its children to come run on one CPU only."""
        os.sched_setaffinity(self.pid, {cpu})

    def clock_ns(self) -> int:
        """Read the CPU time of the process, up to the last tick if it is running."""
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def close(self) -> None:
        """Kill it if it still lives."""
        if self._process.returncode is None:
            self._process.kill()
        self._process.communicate()


# --- cgroups ------------------------------------------------------------------------------------


class Cgroup:
    """A cgroup of this test's own in one hierarchy."""

    def __init__(self, hierarchy: str, suffix: str = "") -> None:
        found = discover(hierarchy)
        root = found.v1_root or found.v2_root
        assert root
        self.name = f"/kepler-test-{os.getpid()}-{next(_numbers)}{suffix}"
        self.directory = Path(root + self.name)
        self.directory.mkdir()
        self.id = self.directory.stat().st_ino | (int(CGROUP_V1) if found.v1_root else 0)

    def take(self, pid: int) -> None:
        """Move a process in."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def release(self, pid: int) -> None:
        """Move a process out to the root."""
        (self.directory.parent / "cgroup.procs").write_text(str(pid))

    @property
    def cpu_ns(self) -> int:
        """CPU time as the cgroup's own controller counts it."""
        v1_file = self.directory / "cpuacct.usage"
        if v1_file.exists():
            return int(v1_file.read_text())
        stat = dict(line.split() for line in (self.directory / "cpu.stat").read_text().splitlines())
        return int(stat["usage_usec"]) * 1000

    def remove(self) -> None:
        """Remove it, when its last process is gone."""
        end = time.monotonic() + 5
        while self.directory.exists():
            try:
                self.directory.rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
