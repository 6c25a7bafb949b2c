"""CPU time of every task, closed interval by interval and drained from the kernel maps.

Closing and draining touch little memory: the records of an interval go behind those of the one
before it and stay there until they are taken.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.kernel.layout import (
    CGROUP_EVENT,
    CGROUP_KEY,
    CGROUP_USAGE,
    PROCESS_END,
    TASK,
    TASK_KEY,
    TASK_USAGE,
)
from kepler_ebpf.kernel.libbpf import MapDrain, TestRun, program_figures
from kepler_ebpf.kernel.programs import CGROUP_ENTRIES, HOOKS, JOB_HOOKS, Programs
from kepler_ebpf.kernel.rings import CgroupNotifier, ExecEvents, ProcessEnds
from kepler_ebpf.kernel.samples import Samples
from kepler_ebpf.kernel.slots import Boundary, Slots
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.names import CgroupEvent
from kepler_ebpf.model.stats import ProgramStats, TrackerStats
from kepler_ebpf.model.usage import OVERFLOW_COMM, Usage

MAX_PENDING_RECORDS = 20_000
"""More records than these should not wait to be taken; there is room for one full map beyond."""

SCARCE_RATIO = 1 / 8
"""The part of a task map that cgroups share: no one of them has all of it."""


class CpuTimeTracker:
    """CPU time by task and interval. ``start`` first, ``close`` last; for one thread."""

    def __init__(self, programs: Programs, topology: Topology, task_entries: int) -> None:
        maps, self._programs, self._entries = programs.maps, programs, task_entries
        self.loader = programs.loader
        self._slots = Slots(programs, topology)
        self.jobs = (
            Jobs(programs, lambda: self._slots.control) if "arm" in programs.programs else None
        )
        """The jobs, where the programs were loaded with them."""
        self.samples = (
            Samples(programs, lambda: self._slots.control, topology.online)
            if "on_sample" in programs.programs
            else None
        )
        """The samples, where the programs were loaded with them."""
        self._sockets = topology.sockets
        rows = MAX_PENDING_RECORDS + task_entries + CGROUP_ENTRIES + 512
        # One map for each parity of the epoch.
        self._tasks = MapDrain([maps["tasks_0"], maps["tasks_1"]], TASK_KEY, TASK_USAGE, rows)
        self._cgroups = MapDrain(
            [maps["cgroups_0"], maps["cgroups_1"]], CGROUP_KEY, CGROUP_USAGE, CGROUP_ENTRIES + 512
        )
        self._events = MapDrain(
            [maps["cgroup_events"]], np.dtype("<u8"), CGROUP_EVENT, CGROUP_ENTRIES + 512
        )
        self.cgroup_notifier = CgroupNotifier(maps["cgroup_notifier"])
        """Readable when a cgroup was made: its event needs no end of an interval."""
        self.exec_events = ExecEvents(maps["execs"])
        """The programs that were executed since they were last taken."""
        self._process_ends = ProcessEnds(maps["ends"])
        self._ends = [np.zeros(0, PROCESS_END)]
        self._events_seen = 0
        self._pending = self._drained = 0
        self._overflow_ns = [0, 0]
        self._start: Boundary | None = None
        self._last = Boundary(frozenset(), (), 0, 0)
        self._close_s = self._fill_ratio = 0.0

    # --- intervals

    def start(self, v1_hierarchy: int = 0) -> None:
        """Attach, and take the first boundary; what ran before it has no owner."""
        control = self._slots.control
        control["v1_hierarchy"] = v1_hierarchy
        control["scarce"] = int(self._entries * SCARCE_RATIO)
        control["room_0"] = control["room_1"] = self._entries
        self._slots.prepare()
        self._programs.attach()
        TestRun(self._programs.programs["read_self"]).here()
        parity = self._slots.epoch & 1
        self._last = self._slots.close_interval(wake_idle=True)
        self._tasks.take(parity)
        self._cgroups.take(parity)

    def close_interval(self) -> None:
        """End the running interval now; ``drain`` then returns it."""
        began_s = time.perf_counter()
        # After a drain that failed, the interval goes on from where it began.
        self._start = self._start or self._last
        self._last = self._slots.close_interval()
        self._close_s = time.perf_counter() - began_s

    def drain(self) -> Usage:
        """Move the closed interval out of the maps; its records wait to be taken."""
        if self._start is None:
            raise RuntimeError("CpuTimeTracker.close_interval() was not called")
        began_s, parity, first = time.perf_counter(), ~self._slots.epoch & 1, self._pending
        self._pending = self._tasks.take(parity, first)
        self._fill_ratio = (self._pending - first) / self._entries
        room, control = f"room_{parity}", self._slots.control
        is_crowded = self._slots.control_word(room) <= self._slots.control_word("scarce")
        is_crowded |= self._last.overflow_ns > self._overflow_ns[parity]
        control[room] = self._entries
        # Of a map of cgroups that does not fit, the entries stay in it for later.
        if is_crowded and self._pending + len(self._cgroups.keys) <= len(self._tasks.keys):
            self._add_overflow(self._cgroups.take(parity))
            self._overflow_ns[parity] = self._last.overflow_ns
        if self._process_ends.pending_bytes:
            self._ends.append(self._process_ends.take(self._slots.epoch - 1))
        start, self._start = self._start, None
        sockets, wall_ns = self._slots.between(start, self._last)
        # Where only a part could be drained the call before, that part is this interval's.
        count, self._drained = self._pending - self._drained, self._pending
        self._close_s += time.perf_counter() - began_s
        return Usage(start.mean_ns, self._last.mean_ns, wall_ns, sockets, count)

    @property
    def epoch(self) -> int:
        """Of the running interval; in closed intervals it was less."""
        return self._slots.epoch

    @property
    def pending_records(self) -> int:
        """How many records wait to be taken."""
        return self._pending

    def take_records(self, count: int) -> Records:
        """Take the first *count* records that wait, of dtype ``layout.TASK``."""
        records = np.empty(count, TASK)
        raw = records.view(np.uint8).reshape(count, TASK.itemsize)
        for arrays, columns in (
            (self._tasks.keys, slice(None, TASK_KEY.itemsize)),
            (self._tasks.values, slice(TASK_KEY.itemsize, None)),
        ):
            raw[:, columns] = arrays[:count].view(np.uint8).reshape(count, arrays.itemsize)
            arrays[: self._pending - count] = arrays[count : self._pending]
        self._pending -= count
        self._drained -= count
        return records

    def take_ends(self) -> tuple[Records, Records]:
        """Take pid and start of the processes that ended without a record in what was drained."""
        ends, self._ends = np.concatenate(self._ends), self._ends[:1]
        return ends["tgid"], ends["start_ns"]

    @property
    def busy(self) -> tuple[int, tuple[int, ...]]:
        """The last boundary on the monotonic clock, and the busy ns of each socket since start."""
        if not self._last.figures:
            return time.monotonic_ns(), (0,) * self._sockets
        return self._last.mean_ns, self._slots.busy_ns_by_socket(self._last)

    # --- events and figures

    def cgroup_events(self) -> list[CgroupEvent]:
        """Cgroups made and removed since the last call."""
        seen = self._slots.control_word("cgroup_events")
        if seen == self._events_seen:
            return []
        count = self._events.take()
        self._events_seen = seen
        events = self._events.values[:count]
        return [
            CgroupEvent(int(id_), _text(path), bool(removed))
            for id_, path, removed in zip(
                self._events.keys[:count], events["path"], events["removed"], strict=True
            )
        ]

    @property
    def needs_rights(self) -> bool:
        """Whether CAP_BPF is needed as long as the maps are read."""
        return self._programs.need_rights()

    @property
    def self_process(self) -> tuple[int, int]:
        """This process as the kernel counts it: (tgid, process_start_ns)."""
        control = self._slots.control[0]
        return int(control["self_tgid"]), int(control["self_start_ns"])

    @property
    def missed_switches(self) -> int:
        """How often a switch was not seen, which may have been the end of a process."""
        return self._slots.control_word("recovered")

    @property
    def programs(self) -> Mapping[str, int]:
        """The descriptors of the loaded programs, by name."""
        return self._programs.programs

    @property
    def stats(self) -> TrackerStats:
        """Time without a full owner, lost events, and cost."""
        word, lost_ns = self._slots.control_word, self._last.lost_ns
        return TrackerStats(
            lost_ns=lost_ns,
            hidden_ns=min(word("hidden_ns"), lost_ns),
            overflow_ns=self._last.overflow_ns,
            cgroup_events_lost=word("cgroup_events_lost"),
            exec_events_lost=word("exec_events_lost"),
            process_ends_lost=word("ends_lost"),
            map_fill_ratio=self._fill_ratio,
            close_s=self._close_s,
        )

    @property
    def program_stats(self) -> ProgramStats:
        """The run time, run count and missed runs of the attached programs, summed."""
        loaded = self._programs.programs
        attached = (loaded[name] for name in HOOKS | JOB_HOOKS if name in loaded)
        return ProgramStats(*program_figures(attached))

    def close(self) -> None:
        """Let go of the shared memory; the programs are closed by who loaded them."""
        rings = (self.cgroup_notifier, self.exec_events, self._process_ends)
        for part in (self._slots, *rings):
            part.close()
        if self.samples:
            self.samples.close()

    def _add_overflow(self, count: int) -> None:
        """Add a record with pid 0 for each cgroup and socket whose tasks found no room.

        Of the first *count* rows of the cgroups; the other cgroups had room for all their tasks.
        """
        used = np.flatnonzero(self._cgroups.values["switches"][:count])
        count = len(used)
        rows = slice(self._pending, self._pending + count)
        keys, values = self._tasks.keys[rows], self._tasks.values[rows]
        keys[:] = np.zeros(1, TASK_KEY)
        values[:] = np.zeros(1, TASK_USAGE)
        for name in ("cgroup_id", "socket"):
            keys[name] = self._cgroups.keys[name][used]
        for name in ("cpu_ns", "switches"):
            values[name] = self._cgroups.values[name][used]
        values["comm"] = values["process_comm"] = OVERFLOW_COMM.encode()
        self._pending += count


def _text(raw: bytes) -> str:
    """Decode up to the terminator: the kernel's buffer holds the rest of an older, longer path."""
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
