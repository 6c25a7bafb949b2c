"""How this process behaves on the host: priority, the interpreter's lock, garbage."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)

LOOP_NICENESS = -10

GIL_SWITCH_S = 0.0005
"""A scrape in another thread holds the interpreter no longer than this while the loop is due."""

GARBAGE_PERIOD_S = 60.0
ROUNDS_TO_ALL = 60
"""Each hour all objects are searched, also those that were in use before."""


def raise_priority() -> None:
    """Make the calling thread, and no other of ours, punctual on a busy host, where allowed."""
    sys.setswitchinterval(GIL_SWITCH_S)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, LOOP_NICENESS)
    except PermissionError:
        LOG.debug("The loop runs at normal priority: a higher one needs CAP_SYS_NICE")


class GarbageRounds:
    """Searches for reference cycles once in a period.

    Python's own search starts in the middle of an interval and touches every label there is.
    Nearly everything here is freed without it, so a search once a minute, among what is new only,
    is enough.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = clock() + GARBAGE_PERIOD_S
        self._rounds = 0

    def work(self) -> None:
        """Search if it is time; what is found to be in use is not searched again for long."""
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + GARBAGE_PERIOD_S
            self._rounds += 1
            if self._rounds % ROUNDS_TO_ALL == 0:
                gc.unfreeze()
            gc.collect()
            gc.freeze()


@contextmanager
def garbage_rounds() -> Iterator[GarbageRounds]:
    """Turn the automatic search off while the context lasts."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield GarbageRounds()
    finally:
        gc.enable()
        gc.unfreeze()
