"""The one engine of a process that measures, shared by all its threads and open blocks.

A block holds no counter of its own: at each of its edges an interval ends, and an open block sums
every interval in between. So blocks may be nested and may overlap.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.jobs.client import RemoteJob
from kepler_ebpf.jobs.protocol import Begin
from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.kernel.layout import JOB_SHIFT
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.model.arrays import Bools, Records
from kepler_ebpf.model.energy import Meter, MeterStats
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.stat.result import Run
from kepler_ebpf.stat.tally import Span, run_of, span_of

KEEP_S = 0.5
"""Intervals end at least so often while a block is open: the map of tasks must not fill unseen."""

BEFORE_S = 0.005
"""The power so long before a block bounds its error: the counter's last step may be of then."""

MAX_JOB = (1 << 24) - 1

LOCK = threading.RLock()
"""Held while an interval ends, and over each fork."""


@dataclass(slots=True, eq=False)
class Block:
    """What is measured: this process, or its *thread* alone; and what it starts, if *children*.

    ``span`` sums the intervals from number ``first`` on, ``before`` those just before.
    """

    thread: int | None
    children: bool
    first: int = sys.maxsize
    before: Span | None = None
    span: Span | None = None
    jobs: set[int] = field(default_factory=set)
    lost_children: int = 0

    def add(self, number: int, span: Span) -> None:
        """Add the interval *number*."""
        # Tasks are not counted here, and could be many.
        span.tasks.clear()
        name = "before" if number < self.first else "span"
        sum_ = getattr(self, name)
        if sum_ is None:
            setattr(self, name, span)
        else:
            sum_.add(span)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine is made of: started, with jobs. ``close`` takes all down."""

    tracker: CpuTimeTracker
    jobs: Jobs
    meter: Meter
    measurer: Measurer
    close: Callable[[], None]


class Engine:
    """Ends intervals on demand and adds them to the open blocks; for any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._number = self._job = 0
        self._blocks: list[Block] = []
        self._keeper: threading.Thread | None = None
        self._change = threading.Condition(LOCK)
        self.meter = parts.meter.stats
        self.is_closed = False

    def begin(self, block: Block) -> None:
        """Count for *block* from now on. Raises KeplerError."""
        process, _ = self._parts.tracker.self_process
        if process != os.getpid() and (block.thread is not None or block.children):
            problem = "threads and children cannot be known in a PID namespace of its own"
            raise SetupError(problem, "measure the whole process, or run it in the host's")
        try:
            with LOCK:
                self._end_interval()
                self._blocks.append(block)
                self._credit()
                self._keep()
            if self.meter.update_s:
                time.sleep(BEFORE_S)
            with LOCK:
                if block.children:
                    self._mark()
                block.lost_children = -self._parts.jobs.marks_lost
                self._end_interval()
                block.first = self._number
        except BaseException:
            self._drop(block)
            raise

    def end(self, block: Block) -> Run | None:
        """Return what *block* used; None in a process that has been forked in it."""
        try:
            with LOCK:
                if self.is_closed:
                    return None
                self._end_interval()
                self._credit()
                block.lost_children += self._parts.jobs.marks_lost
                if block.children:
                    self._mark(block)
        finally:
            self._drop(block)
        span, meter = block.span, self._parts.meter
        if span is None:
            raise ReadError("no interval of the block could be read", "")
        if block.before:
            span.power_w = span.power_w.clip(min=block.before.power_w)
        return run_of(span, meter.zones, self.meter, span.length_s)

    def close(self) -> None:
        """Take everything down; in a forked child that frees what it has inherited."""
        with LOCK:
            self.is_closed = True
            self._blocks.clear()
            self._change.notify_all()
            self._parts.close()

    # --- intervals; all with the lock held

    def _end_interval(self) -> None:
        self._parts.measurer.measure_now(self._number)
        self._number += 1

    def _credit(self) -> None:
        """Add the intervals that have ended to the open blocks."""
        # No reader names programs and ends: they are only kept from filling memory.
        self._parts.tracker.exec_events.take()
        self._parts.tracker.take_ends()
        measured, zones = self._parts.measurer.take(), self._parts.meter.zones
        for index, interval in enumerate(measured.intervals):
            records = measured.records[measured.interval_of == index]
            part = Measured(records, np.zeros(len(records), np.intp), (interval,))
            for block in self._blocks:
                block.add(interval.number, span_of(part, zones, self._select(block)))

    def _select(self, block: Block) -> Callable[[Records], Bools]:
        process, start_ns = self._parts.tracker.self_process
        keeper = self._keeper.native_id if self._keeper else 0

        def chosen(records: Records) -> Bools:
            is_ours = (records["tgid"] == process) & (records["process_start_ns"] == start_ns)
            pids = records["pid"]
            wanted = pids != keeper if block.thread is None else pids == block.thread
            job = records["flags"] >> np.uint32(JOB_SHIFT)
            is_in: Bools = np.where(is_ours, wanted, np.isin(job, list(block.jobs)))
            return is_in

        return chosen

    def _mark(self, ended: Block | None = None) -> None:
        """Give each thread a new job: what it starts from now on is in the blocks open now."""
        seen: set[int] = set()
        while missing := {int(each.name) for each in Path("/proc/self/task").iterdir()} - seen:
            for thread in missing:
                self._job = self._job % MAX_JOB + 1
                self._parts.jobs.mark(thread, self._job)
                for block in self._blocks:
                    if block is not ended and block.children and block.thread in {None, thread}:
                        block.jobs.add(self._job)
            seen |= missing

    def _drop(self, block: Block) -> None:
        with LOCK:
            if block in self._blocks:
                self._blocks.remove(block)
            self._change.notify_all()

    # --- a thread while blocks are open

    def _keep(self) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._run, name="kepler-ebpf", daemon=True)
            self._keeper.start()

    def _run(self) -> None:
        with LOCK:
            while self._blocks:
                if self._change.wait(KEEP_S):
                    continue
                try:
                    self._end_interval()
                    self._credit()
                except ReadError:
                    continue  # The interval goes on, and the end of a block raises it again.
            self._keeper = None


class RemoteEngine:
    """Has blocks measured at the socket *path*, where we may not measure; for any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._jobs: dict[Block, RemoteJob] = {}
        self.meter = MeterStats("", is_estimate=True)
        """That of the last block; it is the same for all."""
        self.is_closed = False

    def begin(self, block: Block) -> None:
        """Count for *block* from now on. Raises KeplerError."""
        scope = "process" if block.thread is None else "thread"
        job = RemoteJob(self._path, Begin(scope, block.children, block.thread))
        with LOCK:
            self.meter = job.meter
            self._jobs[block] = job

    def end(self, block: Block) -> Run | None:
        """Return what *block* used; None in a process that has been forked in it."""
        with LOCK:
            job = self._jobs.pop(block, None)
        if job is None:
            return None
        run = job.end()
        block.lost_children = job.lost_children
        return run

    def close(self) -> None:
        """End all blocks; in a forked child that only lets go of the parent's."""
        with LOCK:
            self.is_closed = True
            while self._jobs:
                self._jobs.popitem()[1].close()
