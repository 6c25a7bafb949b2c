"""Finds listed processes whose end the kernel side had no room to tell of.

Looks at a few of them now and then, so that its cost does not follow how many exist.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from kepler_ebpf.ledger.identity_index import Majors, Minors
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

PERIOD_S = 5.0
MAX_LOOKS = 24

Listed = Callable[[], tuple[Minors, Majors]]
"""Gives pid and start of every process that is listed as running."""


class ExitChecker:
    """Goes round the running processes. Idle where *procfs* does not show this process itself."""

    def __init__(
        self,
        procfs: str,
        own: tuple[int, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*own* is pid and start of this process as the kernel side has it."""
        self._procfs = procfs
        self._clock = clock
        self._next_s = clock() + PERIOD_S
        self._after_pid = 0
        # In a procfs of another PID namespace, or one that hides processes (hidepid), every process
        # looks gone.
        shows_others = os.access(f"{procfs}/1/stat", os.R_OK)
        self._works = shows_others and is_alive(own[0], start_ticks(own[1]), procfs)

    def gone(self, listed: Listed) -> tuple[Minors, Majors]:
        """Return pid and start of processes found gone; none most of the time."""
        nobody = np.zeros(0, np.uint32), np.zeros(0, np.uint64)
        if not self._works or self._clock() < self._next_s:
            return nobody
        self._next_s = self._clock() + PERIOD_S
        tgids, starts = listed()
        chosen = self._choose(tgids)
        looks = zip(tgids[chosen].tolist(), starts[chosen].tolist(), strict=True)
        dead = [not is_alive(tgid, start_ticks(start), self._procfs) for tgid, start in looks]
        return tgids[chosen][dead], starts[chosen][dead]

    def _choose(self, tgids: Minors) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Pick the next pids in order, beginning anew at the end."""
        order = np.argsort(tgids)
        first = int(np.searchsorted(tgids, self._after_pid, "right", sorter=order))
        chosen = order[first : first + MAX_LOOKS]
        self._after_pid = int(tgids[chosen[-1]]) if len(chosen) == MAX_LOOKS else 0
        return chosen
