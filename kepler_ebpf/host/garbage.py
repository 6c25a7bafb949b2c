"""Python's search for reference cycles, at moments of our choosing.

By itself it starts in the middle of an interval and looks at every label there is. Nearly
everything here is freed without it, so a look once a minute, at what is new only, is enough.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD_S = 60.0
ROUNDS_TO_ALL = 60
"""Each hour everything is looked at, also what was in use before."""


class GarbageRounds:
    """Looks for cycles now and then, when told that there is time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = clock() + PERIOD_S
        self._rounds = 0

    def work(self) -> None:
        """Look if it is time; what is found to be in use is not looked at again for long."""
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + PERIOD_S
            self._rounds += 1
            if self._rounds % ROUNDS_TO_ALL == 0:
                gc.unfreeze()
            gc.collect()
            gc.freeze()


@contextmanager
def no_automatic_rounds() -> Iterator[GarbageRounds]:
    """Turn the automatic search off while the context lasts."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield GarbageRounds()
    finally:
        gc.enable()
        gc.unfreeze()
