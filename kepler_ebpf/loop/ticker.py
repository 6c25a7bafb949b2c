"""When to sample: a grid of instants that does not drift, and the ways to leave or cut a wait.

What wakes the loop from this process goes through one event descriptor, which signal handlers and
other threads may write at any moment. The kernel has a bell of its own.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

MAX_WAIT_S = 20.0
"""Most energy counters wrap after minutes at full power: nobody waits for longer than this."""

MIN_WAIT_S = 0.1
"""A counter that wraps sooner than this is broken: to read it still more often would only cost."""

BELL_PAUSE_S = 0.02
"""The bell is answered no more often than this, and not when the next instant is as near."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Tick:
    """One instant to sample at.

    ``lateness_s`` is how far behind the grid it comes, ``missed`` how many instants of the grid
    were skipped since the last one, ``extra`` whether a reader asked for it between two. Two are
    none at all: ``rest``, a moment in a long wait to read what may wrap meanwhile, and ``rung``,
    one in which the bell was heard.
    """

    lateness_s: float = 0.0
    missed: int = 0
    extra: bool = False
    rest: bool = False
    rung: bool = False


class Bell(Protocol):
    """Something outside of this process that may want attention before the next instant."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while it wants attention."""

    def acknowledge(self) -> None:
        """Take note, so that the descriptor is readable no longer."""


class Ticker:
    """Yields a Tick for each interval until stopped; late instants are counted, not replayed."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False
        self._wanted = False
        self._due_s = clock() + interval_s
        self._rest_s = MAX_WAIT_S
        self._rest_due_s = clock() + MAX_WAIT_S
        self._bells: list[Bell] = []
        self._deaf_until_s = clock()

    def rest_within(self, longest_s: float) -> None:
        """Give a tick that is ``rest`` after *longest_s* without one in which counters are read."""
        self._rest_s = min(MAX_WAIT_S, max(MIN_WAIT_S, longest_s))

    def listen(self, bell: Bell) -> None:
        """Give a tick that is ``rung`` when *bell* wants attention while there is time for it."""
        self._bells.append(bell)

    def stop(self, *_: object) -> None:
        """End the iteration at once. Safe in a signal handler and from any thread."""
        self._stopped = True
        os.eventfd_write(self._event, 1)

    def want_now(self) -> None:
        """Have the next tick now, without moving the grid. Safe from any thread."""
        self._wanted = True
        os.eventfd_write(self._event, 1)

    def remaining_s(self) -> float:
        """Time left until the next instant of the grid; 0 when the loop is wanted before it."""
        if self._stopped or self._wanted:
            return 0.0
        return max(0.0, self._due_s - self._clock())

    def __iter__(self) -> Iterator[Tick]:
        # The grid starts here: what it took to get ready is no delay of the loop.
        self._due_s = self._clock() + self._interval_s
        self._put_off_rest()
        while not self._stopped:
            remaining_s = self._due_s - self._clock()
            if remaining_s <= 0:
                self._put_off_rest()
                yield self._next()
                continue
            tick = self._wait(remaining_s)
            if self._wanted and not self._stopped:
                self._wanted = False
                self._put_off_rest()
                yield Tick(extra=True)
            elif tick and not self._stopped:
                yield tick

    def close(self) -> None:
        """Release the event descriptor; no ``stop`` or ``want_now`` after this."""
        os.close(self._event)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the iteration while the context lasts."""
        before = {number: signal.signal(number, self.stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self, remaining_s: float) -> Tick | None:
        """Wait, at most until the next instant; return what may be done meanwhile."""
        bells = self._bells if remaining_s > BELL_PAUSE_S else []
        deaf_s = self._deaf_until_s - self._clock()
        wait_s = max(0.0, min(remaining_s, self._rest_due_s - self._clock()))
        if bells and deaf_s > 0:
            bells, wait_s = [], min(wait_s, deaf_s)
        # select() takes microseconds where poll() rounds up to milliseconds.
        sources = [self._event, *(bell.fileno() for bell in bells)]
        ready, _, _ = select.select(sources, [], [], wait_s)
        if self._event in ready:
            os.eventfd_read(self._event)
        rung = [bell for bell in bells if bell.fileno() in ready]
        for bell in rung:
            bell.acknowledge()
            self._deaf_until_s = self._clock() + BELL_PAUSE_S
        if rung:
            return Tick(rung=True)
        if self._clock() < self._rest_due_s:
            return None
        self._put_off_rest()
        return Tick(rest=True)

    def _put_off_rest(self) -> None:
        """Count the time until the next rest from now, as the counters are read."""
        self._rest_due_s = self._clock() + self._rest_s

    def _next(self) -> Tick:
        lateness_s = max(0.0, self._clock() - self._due_s)
        missed = int(lateness_s // self._interval_s)
        # This tick serves whoever asked for one while the last interval was worked on.
        self._wanted = False
        self._due_s += (missed + 1) * self._interval_s
        return Tick(lateness_s, missed)
