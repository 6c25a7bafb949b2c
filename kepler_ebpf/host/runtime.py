"""How this process behaves on the host: priority, the interpreter's lock, garbage."""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kepler_ebpf.errors import SetupError

LOG = logging.getLogger(__name__)

LOOP_NICENESS = -10

MIN_FILES = 64
"""Descriptors that `run` needs where nobody scrapes, and some to spare."""

GIL_SWITCH_S = 0.0005
"""A scrape in another thread holds the interpreter no longer than this while the loop is due."""

GARBAGE_PERIOD_S = 60.0
ROUNDS_TO_ALL = 60
"""Each hour all objects are searched, also those that were in use before."""


def require_files() -> None:
    """Raise SetupError where this process may have too few files open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < MIN_FILES:
        raise SetupError(
            f"the limit of open files is {limit}",
            f"raise it to {MIN_FILES} or more: ulimit -n, or LimitNOFILE= of the unit",
        )


def raise_priority() -> None:
    """Make the calling thread, and no other, punctual on a busy host, where allowed."""
    sys.setswitchinterval(GIL_SWITCH_S)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, LOOP_NICENESS)
    except PermissionError:
        LOG.debug("The loop runs at normal priority: a higher one needs CAP_SYS_NICE")


@contextmanager
def garbage_rounds(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[], None]]:
    """Search for reference cycles once in a period: yields what does so if it is time.

    Python's own search starts in the middle of an interval and touches every label there is; it is
    off meanwhile. Nearly everything here is freed without it, so a search once a minute, among
    what is new only, is enough. What is found to be in use is not searched again for long.
    """
    rounds, next_s = 0, clock() + GARBAGE_PERIOD_S

    def search() -> None:
        nonlocal rounds, next_s
        if clock() >= next_s:
            rounds, next_s = rounds + 1, clock() + GARBAGE_PERIOD_S
            if rounds % ROUNDS_TO_ALL == 0:
                gc.unfreeze()
            gc.collect()
            gc.freeze()

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield search
    finally:
        gc.enable()
        gc.unfreeze()
