"""Measures intervals and hands them on to be written, in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from kepler_ebpf.errors import ReadError
from kepler_ebpf.kernel.tracker import MAX_PENDING_RECORDS, CpuTimeTracker
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.loop.ticker import Tick, Ticker, Wake
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.energy import NS_PER_S, Meter
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.names.naming import HostNaming
from kepler_ebpf.recording.encode import NamedRows
from kepler_ebpf.recording.schema import Mark
from kepler_ebpf.recording.writer import Taken, Writer

LOG = logging.getLogger(__name__)

BATCH_NS = NS_PER_S // 2
"""A batch is handed on at the end of the interval in which it becomes so old.

What is not written yet is lost where the recorder is killed: this, an interval, and what the writer
needs for a batch. Shorter batches would make a recording larger: each has a frame of 8 kB.
"""

NAMING_SHARE = 0.1
"""Part of an interval that naming may take inside of a batch."""

LAST_NAMING_S = 0.5
"""What naming may take in the end, when no interval waits for it."""


class BatchNaming(Protocol):
    """The names that batches need, see ``naming.BatchNames``."""

    def of(self, records: Records, budget_s: float) -> NamedRows:
        """Return the names that are new or better with *records*."""

    def gone(self, records: Records) -> list[tuple[str, Hashable]]:
        """Return kind and key of the names that are not needed after them."""


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Records until the ticker stops, or until nothing more is written. The measurer has started.

    ``shown`` is called after each batch, ``housekeeping`` when there is time.
    """

    tracker: CpuTimeTracker
    meter: Meter
    measurer: Measurer
    names: HostNaming
    batch_names: BatchNaming
    writer: Writer
    interval_s: float
    shown: Callable[[Mark], None]
    housekeeping: Callable[[], None]

    mark: Mark = field(init=False, default=Mark())
    """The counts so far."""
    _ends_s: list[float] = field(init=False, default_factory=list)
    _due_ns: int = field(init=False, default=0)
    _number: int = field(init=False, default=0)
    _late: int = field(init=False, default=0)

    def run(self, ticker: Ticker) -> None:
        """Record, and close the writer."""
        ticker.watch_cgroups(self.tracker.cgroup_notifier)
        ticker.read_counters_within(self.meter.max_wait_s)
        self._due_ns = time.monotonic_ns() + BATCH_NS
        for tick in ticker:
            try:
                self._work(tick)
            except ReadError as error:
                LOG.warning("An interval could not be read; the next one is longer: %s", error)
            if self.names.has_work:
                self.names.work(ticker.remaining_s)
            if self.writer.has_ended:
                break
        try:
            self.measurer.measure_now(self._number)
            self._ends_s.append(time.time())
        except ReadError as error:
            LOG.warning("The last interval could not be read: %s", error)
        until_s = time.monotonic() + LAST_NAMING_S
        self.names.work(lambda: until_s - time.monotonic())
        self._hand_on(LAST_NAMING_S)
        self.writer.close()

    def _work(self, tick: Tick) -> None:
        if tick.wake is Wake.READ_COUNTERS:
            self.meter.read()
        if tick.wake is Wake.INTERVAL:
            self._late += tick.missed > 0
            if self.measurer.measure(self._number):
                self._ends_s.append(time.time())
                self._number += 1
            if self._is_due():
                self._hand_on(self.interval_s * NAMING_SHARE)
                self.housekeeping()
        self.names.learn_cgroups(self.tracker.cgroup_events())

    def _is_due(self) -> bool:
        """Whether the batch must not grow by another interval."""
        execs = self.tracker.exec_events
        return (
            time.monotonic_ns() >= self._due_ns
            or self.tracker.pending_records >= MAX_PENDING_RECORDS
            or execs.pending_bytes >= execs.size_bytes // 2
        )

    def _hand_on(self, naming_s: float) -> None:
        """Have the writer write what was measured, with names that take *naming_s* at most."""
        measured, ends_s, self._ends_s = self.measurer.take(), self._ends_s, []
        if not ends_s:
            return
        self._due_ns = measured.intervals[-1].usage.end_ns + BATCH_NS
        self.mark = self._counted(measured)
        names = self.batch_names.of(measured.records, naming_s)
        gone = self.batch_names.gone(measured.records)
        self.writer.put(Taken(measured, ends_s, names, gone, self.mark))
        self.shown(self.mark)

    def _counted(self, measured: Measured) -> Mark:
        """Return the counts so far, with those of *measured*."""
        records, stats = measured.records, self.tracker.stats
        errors = self.meter.stats.errors.items()
        return Mark(
            rows=self.mark.rows + len(records),
            intervals=self.mark.intervals + len(measured.intervals),
            late=self._late,
            lost_ns=self.mark.lost_ns + measured.lost_ns,
            untracked_ns=self.mark.untracked_ns + measured.overflow_ns,
            events_lost=stats.exec_events_lost + stats.process_ends_lost + stats.cgroup_events_lost,
            meter_errors={f"{path}: {reason}": count for (path, reason), count in errors},
        )
