"""One closed interval after the other, from the kernel maps into numpy arrays.

Closing and draining are one transaction: what leaves the maps is in the ``Usage`` returned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel.cgroup_notifier import CgroupNotifier
from kepler_ebpf.kernel.layout import (
    CGROUP_EVENT,
    CGROUP_KEY,
    CGROUP_USAGE,
    TASK,
    TASK_KEY,
    TASK_USAGE,
)
from kepler_ebpf.kernel.libbpf import MapDrain, ProgramStats, TestRun, program_stats
from kepler_ebpf.kernel.programs import CGROUP_ENTRIES, HOOKS, Programs
from kepler_ebpf.kernel.slots import LOST, OVERFLOW, Boundary, Cpus
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.usage import OVERFLOW_COMM, Usage


@dataclass(frozen=True, slots=True)
class CgroupEvent:
    """A cgroup was made or removed; ``path`` is below the root of its hierarchy."""

    cgroup_id: int
    path: str
    removed: bool


class _Drain:
    """A BPF hash map and the two arrays it is drained into, reused from interval to interval."""

    def __init__(self, map_fd: int, key: np.dtype[Any], value: np.dtype[Any], entries: int) -> None:
        self._keys = np.empty(entries, key)
        self._values = np.empty(entries, value)
        self._drain = MapDrain(map_fd, self._keys, self._values)

    def take(self) -> tuple[Records, Records]:
        """Empty the map; the records are valid until the next call."""
        count = self._drain.take()
        return self._keys[:count], self._values[:count]


class CpuTimeTracker:
    """The kernel's account of CPU time, by interval. ``start`` first, ``close`` last."""

    def __init__(self, programs: Programs, topology: Topology, task_entries: int) -> None:
        self._programs = programs
        self._cpus = Cpus(programs, topology)
        self._sockets = topology.sockets
        maps, self._entries = programs.maps, task_entries
        self._tasks = [
            _Drain(maps[f"tasks_{set_}"], TASK_KEY, TASK_USAGE, task_entries) for set_ in (0, 1)
        ]
        self._cgroups = [
            _Drain(maps[f"cgroups_{set_}"], CGROUP_KEY, CGROUP_USAGE, CGROUP_ENTRIES)
            for set_ in (0, 1)
        ]
        self._events = _Drain(maps["cgroup_events"], np.dtype("<u8"), CGROUP_EVENT, CGROUP_ENTRIES)
        self.cgroup_notifier = CgroupNotifier(maps["cgroup_notifier"])
        """Rung when a cgroup was made: its event can be had without waiting for an interval."""
        self._events_seen = 0
        self._start: Boundary | None = None
        self._last: Boundary | None = None
        self.close_s = 0.0
        self.fill_ratio = 0.0

    @property
    def busy(self) -> tuple[int, tuple[int, ...]]:
        """The last boundary on the monotonic clock, and each socket's busy ns since attaching."""
        if self._last is None:
            return time.monotonic_ns(), (0,) * self._sockets
        return self._last.mean_ns, self._cpus.busy_ns_by_socket(self._last)

    @property
    def self_process(self) -> tuple[int, int]:
        """This process as the kernel counts it: (tgid, process_start_ns)."""
        control = self._cpus.control[0]
        return int(control["self_tgid"]), int(control["self_start_ns"])

    @property
    def cgroup_events_lost(self) -> int:
        """Cgroups made or removed that the kernel side had no room to tell of."""
        return int(self._cpus.control["cgroup_events_lost"][0])

    @property
    def overflow_ns(self) -> int:
        """CPU time since start that is known by cgroup only, as the task map was full."""
        return self._total(OVERFLOW)

    @property
    def lost_ns(self) -> int:
        """CPU time since start that nobody could be charged for."""
        return self._total(LOST)

    @property
    def hidden_ns(self) -> int:
        """Part of the lost time: of tasks that the kernel hides from tracing."""
        return min(int(self._cpus.control["hidden_ns"][0]), self.lost_ns)

    def start(self, v1_hierarchy: int = 0) -> None:
        """Attach, and take the first boundary; what ran before it is nobody's."""
        self._cpus.control["v1_hierarchy"] = v1_hierarchy
        self._cpus.prepare()
        self._programs.attach()
        TestRun(self._programs.programs["read_self"]).here()
        old = self._cpus.epoch & 1
        self._last = self._cpus.close_interval(wake_idle=True)
        self._tasks[old].take()
        self._cgroups[old].take()

    def interval(self) -> Usage:
        """Close the running interval, drain it and return it."""
        self.close_interval()
        return self.drain()

    def close_interval(self) -> None:
        """End the running interval now; ``drain`` then returns it."""
        if self._last is None:
            raise RuntimeError("CpuTimeTracker.start() was not called")
        began = time.perf_counter()
        # After a drain that failed, the interval goes on from where it began.
        self._start = self._start or self._last
        self._last = self._cpus.close_interval()
        self.close_s = time.perf_counter() - began

    def drain(self) -> Usage:
        """Take the closed interval out of the maps."""
        if self._start is None or self._last is None:
            raise RuntimeError("CpuTimeTracker.close_interval() was not called")
        began, old = time.perf_counter(), ~self._cpus.epoch & 1
        keys, usages = self._tasks[old].take()
        self.fill_ratio = len(keys) / self._entries
        tasks = _task_records(keys, usages)
        if self._overflowed(self._start, self._last):
            tasks = np.concatenate([tasks, _overflow_records(*self._cgroups[old].take())])
        start, self._start = self._start, None
        sockets, wall_ns = self._cpus.between(start, self._last)
        self.close_s += time.perf_counter() - began
        return Usage(start.mean_ns, self._last.mean_ns, wall_ns, tasks, sockets)

    def cgroup_events(self) -> list[CgroupEvent]:
        """Cgroups made and removed since the last call."""
        seen = int(self._cpus.control["cgroup_events"][0])
        if seen == self._events_seen:
            return []
        ids, events = self._events.take()
        self._events_seen = seen
        return [
            CgroupEvent(int(id_), _text(path), bool(removed))
            for id_, path, removed in zip(ids, events["path"], events["removed"], strict=True)
        ]

    def stats(self) -> ProgramStats:
        """The hooks' run time, run count and missed runs, summed."""
        each = [program_stats(self._programs.programs[name]) for name in HOOKS]
        return ProgramStats(
            run_ns=sum(stats.run_ns for stats in each),
            run_count=sum(stats.run_count for stats in each),
            missed_count=sum(stats.missed_count for stats in each),
        )

    def close(self) -> None:
        """Detach and free everything in the kernel."""
        self._cpus.close()
        self.cgroup_notifier.close()
        self._programs.close()

    def _overflowed(self, start: Boundary, end: Boundary) -> bool:
        return end.total_ns(OVERFLOW) > start.total_ns(OVERFLOW)

    def _total(self, column: int) -> int:
        return 0 if self._last is None else self._last.total_ns(column)


def _task_records(keys: Records, usages: Records) -> Records:
    """Join keys and usages side by side, as ``layout.TASK`` has them."""
    records = np.empty(len(keys), TASK)
    raw = records.view(np.uint8).reshape(len(keys), TASK.itemsize)
    raw[:, : TASK_KEY.itemsize] = _bytes(keys)
    raw[:, TASK_KEY.itemsize :] = _bytes(usages)
    return records


def _overflow_records(keys: Records, usages: Records) -> Records:
    """A record with pid 0 for each cgroup and socket whose tasks found no room."""
    records = np.zeros(len(keys), TASK)
    records["cgroup_id"] = keys["cgroup_id"]
    records["socket"] = keys["socket"]
    records["cpu_ns"] = usages["cpu_ns"]
    records["switches"] = usages["switches"]
    records["comm"] = records["process_comm"] = OVERFLOW_COMM.encode()
    return records


def _text(raw: bytes) -> str:
    """Decode up to the terminator: the kernel's buffer holds the rest of an older, longer path."""
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def _bytes(records: Records) -> NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.itemsize)
