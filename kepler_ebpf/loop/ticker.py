"""When the loop wakes, and why: one selector and one list of deadlines.

The grid of intervals does not drift. What wakes the loop from this process goes through one event
descriptor, which signal handlers and other threads may write at any moment.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from kepler_ebpf.kernel.rings import CgroupNotifier

MAX_WAIT_S = 20.0
"""Most energy counters wrap after minutes at full power: they are read at least this often."""

MIN_WAIT_S = 0.1
"""A counter that wraps sooner than this is broken: to read it more often would only cost."""

CLOSED = -1

DEBOUNCE_S = 0.02
"""A notification is handled no more often than this, and not when the interval's end is as near."""


class Wake(Enum):
    """Why the loop wakes."""

    INTERVAL = auto()
    """The configured interval has ended."""
    REFRESH = auto()
    """A reader wants figures that are up to date."""
    END_NOW = auto()
    """A job waits for the end of an interval."""
    READ_COUNTERS = auto()
    """The energy counters must be read before they wrap."""
    NEW_CGROUPS = auto()
    """Cgroups were made, whose names may be gone soon."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment to work at.

    Of an INTERVAL, ``lateness_s`` is how far behind the grid it comes, and ``missed`` how many
    instants of the grid were skipped since the last one.
    """

    wake: Wake
    lateness_s: float = 0.0
    missed: int = 0


class Ticker:
    """Yields a Tick for each interval until stopped; late instants are counted, not replayed."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = self._refresh = self._end_now = False
        self._notifier: CgroupNotifier | None = None
        self._max_wait_s = MAX_WAIT_S
        self._interval_due_s = self._counters_due_s = clock()
        self._notified_until_s = clock()

    def read_counters_within(self, max_s: float) -> None:
        """Give a READ_COUNTERS tick after *max_s* without a tick that reads them."""
        self._max_wait_s = min(MAX_WAIT_S, max(MIN_WAIT_S, max_s))

    def watch_cgroups(self, notifier: CgroupNotifier) -> None:
        """Give a NEW_CGROUPS tick when *notifier* is readable and there is time before the end."""
        self._notifier = notifier

    def stop(self) -> None:
        """End the iteration at once. Safe in a signal handler and from any thread."""
        self._stopped = True
        self._wake()

    def refresh(self) -> None:
        """Have a REFRESH tick now. Safe from any thread."""
        self._refresh = True
        self._wake()

    def end_now(self) -> None:
        """Have an END_NOW tick now. Safe from any thread."""
        self._end_now = True
        self._wake()

    def remaining_s(self) -> float:
        """Time left until the interval's end; 0 when the loop is wanted before it."""
        if self._stopped or self._refresh or self._end_now:
            return 0.0
        return max(0.0, self._interval_due_s - self._clock())

    def __iter__(self) -> Iterator[Tick]:
        # The grid starts here: what it took to get ready is no delay of the loop.
        self._interval_due_s = self._clock() + self._interval_s
        self._put_off_counters()
        while not self._stopped:
            if self._clock() >= self._interval_due_s:
                self._put_off_counters()
                yield self._interval()
            elif (tick := self._wait()) and not self._stopped:
                yield tick

    def close(self) -> None:
        """Release the event descriptor; nothing wakes the loop after this."""
        event, self._event = self._event, CLOSED
        os.close(event)

    def _wake(self) -> None:
        with suppress(OSError):
            os.eventfd_write(self._event, 1)

    def _wait(self) -> Tick | None:
        """Wait until the next deadline; return what is to be done then, if not the interval."""
        now_s, deadlines = self._clock(), [self._interval_due_s, self._counters_due_s]
        notifiers: list[CgroupNotifier] = []
        if self._notifier and self._interval_due_s - now_s > DEBOUNCE_S:
            if now_s >= self._notified_until_s:
                notifiers = [self._notifier]
            else:
                deadlines.append(self._notified_until_s)
        sources: list[int | CgroupNotifier] = [self._event, *notifiers]
        # select() takes microseconds where poll() rounds up to milliseconds.
        wait_s = max(0.0, min(deadlines) - now_s)
        ready, _, _ = select.select(sources, (), (), wait_s)
        if self._event in ready:
            os.eventfd_read(self._event)
        if self._refresh:
            # Nothing may have to be measured for it: it does not put the reading off.
            self._refresh = False
            return Tick(Wake.REFRESH)
        if self._end_now:
            self._end_now = False
            return Tick(Wake.END_NOW)
        if notifiers and notifiers[0] in ready:
            notifiers[0].acknowledge()
            self._notified_until_s = self._clock() + DEBOUNCE_S
            return Tick(Wake.NEW_CGROUPS)
        if self._clock() >= self._counters_due_s:
            self._put_off_counters()
            return Tick(Wake.READ_COUNTERS)
        return None

    def _put_off_counters(self) -> None:
        """Count the time until the counters must be read from now, as they are read."""
        self._counters_due_s = self._clock() + self._max_wait_s

    def _interval(self) -> Tick:
        lateness_s = max(0.0, self._clock() - self._interval_due_s)
        missed = int(lateness_s // self._interval_s)
        self._interval_due_s += (missed + 1) * self._interval_s
        return Tick(Wake.INTERVAL, lateness_s, missed)
