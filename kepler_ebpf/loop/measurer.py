"""One interval after the other: CPU time from the kernel beside energy from a meter.

The seam for everything that measures: the loop, a command that is measured, a recording. Measuring
touches little memory; what is measured waits until it is taken.
"""

from __future__ import annotations

import time

import numpy as np

from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.model.energy import Meter, MeterReading
from kepler_ebpf.model.usage import Interval, Measured, SocketTime, Usage

MAX_EXTENSIONS = 3
"""An interval goes on for so many more while a zone cannot be read. After that it ends without the
zone, whose later energy of that time has no owner: a zone must not delay the others for long."""

RETRY_S = 0.002
"""After so long ``measure_now`` reads a zone again that could not be read."""


class Measurer:
    """Measures intervals. The tracker must have started; its first reading is a baseline."""

    def __init__(self, tracker: CpuTimeTracker, meter: Meter) -> None:
        self._tracker = tracker
        self._meter = meter
        self._last = meter.read()
        self._missing: tuple[bool, ...] = tuple(not valid for valid in self._last.valid)
        self._running: Usage | None = None
        self._extensions = 0
        self._intervals: list[Interval] = []

    def measure(self, number: int) -> Interval | None:
        """End the running interval, as part of the configured interval *number*.

        None where a zone cannot be read now: the interval goes on then. Raises ReadError where the
        kernel's maps cannot be read; the interval goes on then, too.
        """
        self._tracker.close_interval()
        reading = self._meter.read()
        usage = self._tracker.drain()
        self._running = usage = _joined(self._running, usage) if self._running else usage
        failing = tuple(
            not valid and not missing
            for valid, missing in zip(reading.valid, self._missing, strict=True)
        )
        if any(failing) and self._extensions < MAX_EXTENSIONS:
            self._extensions += 1
            return None
        interval = self._interval(number, usage, reading)
        self._running, self._extensions = None, 0
        self._intervals.append(interval)
        return interval

    def measure_now(self, number: int = 0) -> None:
        """End the running interval within milliseconds, if need be without a zone.

        Raises ReadError as ``measure`` does.
        """
        while self.measure(number) is None:
            time.sleep(RETRY_S)

    @property
    def pending(self) -> int:
        """How many intervals wait to be taken."""
        return len(self._intervals)

    def take(self) -> Measured:
        """Take the intervals measured since the last call, with their records."""
        intervals, self._intervals = tuple(self._intervals), []
        counts = [interval.usage.record_count for interval in intervals]
        return Measured(
            records=self._tracker.take_records(sum(counts)),
            interval_of=np.repeat(np.arange(len(counts)), counts),
            intervals=intervals,
        )

    def _interval(self, number: int, usage: Usage, reading: MeterReading) -> Interval:
        """Return the interval with the energy that each zone has drawn since its last reading."""
        last, self._last = self._last, reading
        energy_uj = tuple(
            now - before for now, before in zip(reading.energy_uj, last.energy_uj, strict=True)
        )
        gap = (now != before for now, before in zip(reading.gaps, last.gaps, strict=True))
        unowned, self._missing = self._missing, tuple(not valid for valid in reading.valid)
        unread = tuple(map(any, zip(gap, unowned, self._missing, strict=True)))
        return Interval(number, usage, energy_uj, unread, unowned)


def _joined(one: Usage, other: Usage) -> Usage:
    """Return two usages, one after the other, as one."""
    sockets = SocketTime(
        *(
            tuple(map(sum, zip(*figures, strict=True)))
            for figures in zip(one.sockets, other.sockets, strict=True)
        )
    )
    return other._replace(
        start_ns=one.start_ns,
        wall_ns=one.wall_ns + other.wall_ns,
        sockets=sockets,
        record_count=one.record_count + other.record_count,
    )
