"""Finds listed processes whose end the kernel side could not record.

It looks at a few processes in each call, so that its cost does not follow how many exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

MAX_LOOKS = 24
"""Processes that one call looks at."""

Identities = tuple[NDArray[Any], NDArray[Any]]
"""pid and start (ns since boot) of processes, shape (processes,) each."""


class ExitChecker:
    """Goes round the running processes. Idle where *procfs* does not show this process itself."""

    def __init__(self, procfs: str, own: tuple[int, int]) -> None:
        """*own* is pid and start of this process as the kernel side has it."""
        self._procfs = procfs
        self._after_pid = 0
        self._rounds = 0
        # In a procfs of another PID namespace, or one that hides processes (hidepid), every process
        # looks gone.
        shows_others = os.access(f"{procfs}/1/stat", os.R_OK)
        self._works = shows_others and is_alive(own[0], start_ticks(own[1]), procfs)

    @property
    def has_checks(self) -> bool:
        """Whether some processes were not looked at since ``resync``."""
        return self._rounds > 0

    def resync(self) -> None:
        """Look at every process once more: the kernel side may have missed the end of one."""
        # In the middle of a round, those that were looked at in it need another one.
        self._rounds = (1 + (self._after_pid > 0)) if self._works else 0

    def gone(self, listed: Callable[[], Identities]) -> Identities:
        """Return those found gone of the next few processes that *listed* gives as running."""
        tgids, starts = listed()
        looked_at = self._next(tgids) if self._works else np.zeros(0, np.intp)
        looks = zip(tgids[looked_at].tolist(), starts[looked_at].tolist(), strict=True)
        dead = [not is_alive(tgid, start_ticks(start), self._procfs) for tgid, start in looks]
        gone = looked_at[np.array(dead, bool)]
        return tgids[gone], starts[gone]

    def _next(self, tgids: NDArray[Any]) -> NDArray[np.intp]:
        """Return the indices of the next pids in order; after the last the round is over."""
        order = np.argsort(tgids)
        first = int(np.searchsorted(tgids, self._after_pid, "right", sorter=order))
        looked_at = order[first : first + MAX_LOOKS]
        is_over = first + MAX_LOOKS >= len(tgids)
        self._rounds -= is_over
        self._after_pid = 0 if is_over else int(tgids[looked_at[-1]])
        return looked_at
