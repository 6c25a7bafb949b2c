"""When to sample: a grid of instants that does not drift, and the ways to leave or cut a wait.

Everything that wakes the loop goes through one event descriptor, which signal handlers and other
threads may write at any moment.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LONGEST_WAIT_S = 20.0
"""Energy counters wrap after a few minutes at full power: nobody waits for longer than this."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Tick:
    """One instant to sample at.

    ``lateness_s`` is how far behind the grid it comes, ``missed`` how many instants of the grid
    were skipped since the last one, ``extra`` whether a reader asked for it between two, and
    ``rest`` that it is none at all: a moment in a long wait to read what may wrap meanwhile.
    """

    lateness_s: float = 0.0
    missed: int = 0
    extra: bool = False
    rest: bool = False


class Ticker:
    """Yields a Tick for each interval until stopped; late instants are counted, not replayed."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False
        self._wanted = False
        self._due_s = clock() + interval_s

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
        while not self._stopped:
            remaining_s = self._due_s - self._clock()
            if remaining_s <= 0:
                yield self._next()
            elif not self._interrupted(min(remaining_s, LONGEST_WAIT_S)):
                if remaining_s > LONGEST_WAIT_S:
                    yield Tick(rest=True)
            elif self._wanted and not self._stopped:
                self._wanted = False
                yield Tick(extra=True)

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

    def _interrupted(self, timeout_s: float) -> bool:
        # select() takes microseconds where poll() rounds up to milliseconds.
        ready, _, _ = select.select([self._event], [], [], timeout_s)
        if ready:
            os.eventfd_read(self._event)
        return bool(ready)

    def _next(self) -> Tick:
        lateness_s = max(0.0, self._clock() - self._due_s)
        missed = int(lateness_s // self._interval_s)
        # This tick serves whoever asked for one while the last interval was worked on.
        self._wanted = False
        self._due_s += (missed + 1) * self._interval_s
        return Tick(lateness_s, missed)
