"""How this process behaves on the host: priority, the interpreter's lock, garbage, memory."""

from __future__ import annotations

import ctypes
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

MADV_COLLAPSE = 25
HUGE_PAGE_BYTES = 1 << 21


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


def collapse_memory() -> int:
    """Put the memory that the interpreter uses into huge pages; return how many there are.

    An interval then touches few pages instead of hundreds. Kernels before 6.1, and those without
    huge pages, leave the memory as it is.
    """
    libc, collapsed = ctypes.CDLL(None, use_errno=True), 0
    for start, end in _writable_anonymous():
        for address in range(-(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, end, HUGE_PAGE_BYTES):
            size = ctypes.c_size_t(HUGE_PAGE_BYTES)
            if address + HUGE_PAGE_BYTES <= end:
                failed = libc.madvise(ctypes.c_void_p(address), size, MADV_COLLAPSE)
                collapsed += not failed
    return collapsed


def _writable_anonymous() -> Iterator[tuple[int, int]]:
    """Yield start and end of the private memory that belongs to no file, the stack left out."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, rights, _, _, inode, *name = line.split(None, 5)
            if rights == "rw-p" and inode == "0" and not "".join(name).startswith("[stack"):
                start, _, end = span.partition("-")
                yield int(start, 16), int(end, 16)
