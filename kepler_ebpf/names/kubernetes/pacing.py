"""When to try again, and how to wait for it."""

from __future__ import annotations

import random
import threading
import time
from typing import NamedTuple

YIELD_GIL_S = 50e-6


def yield_gil() -> None:
    """Let the sampling loop have the interpreter; called after each pod that was decoded."""
    time.sleep(YIELD_GIL_S)


class Wait(NamedTuple):
    """A pause of ``seconds``, which a nudge may end early, but not before ``least_s``."""

    seconds: float
    least_s: float


def wait_of(seconds: float) -> Wait:
    """Return a pause of *seconds* that no nudge shortens."""
    return Wait(seconds, seconds)


class Backoff:
    """Delays that double from *first_s* to *cap_s*, each spread over its upper half."""

    def __init__(self, first_s: float = 1.0, cap_s: float = 30.0) -> None:
        self._first_s = self._next_s = first_s
        self._cap_s = cap_s

    def next_s(self) -> float:
        """Return the next delay in seconds."""
        delay_s = self._next_s
        self._next_s = min(2.0 * delay_s, self._cap_s)
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - only a spread

    def reset(self) -> None:
        """Start again from the first delay: something worked."""
        self._next_s = self._first_s


class Sleeper:
    """The pauses of a source's thread; another thread can cut them short or end them all."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._nudge = threading.Event()

    def is_stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()

    def sleep(self, wait: Wait) -> bool:
        """Pause the calling thread, not at all when stopped; return whether a nudge has come."""
        if self._stop.wait(wait.least_s):
            return False
        nudged = self._nudge.wait(max(0.0, wait.seconds - wait.least_s))
        self._nudge.clear()
        return nudged

    def nudge(self) -> None:
        """End the present pause, or the next one, as soon as its least time is over."""
        self._nudge.set()

    def stop(self) -> None:
        """End every pause, now and later."""
        self._stop.set()
        self._nudge.set()
