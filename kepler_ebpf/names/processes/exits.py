"""Finds listed processes whose end the kernel side could not record.

It looks at a few processes in each call, so that its cost does not follow how many exist; where
ends are known to be lost, at as many as there is time for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

MAX_LOOKS = 24
"""Processes that one call looks at, if it does not hurry."""

Identities = tuple[NDArray[Any], NDArray[Any]]
"""pid and start (ns since boot) of processes, shape (processes,) each."""


class ExitChecker:
    """Goes round the running processes. Idle while *procfs* does not show this process itself."""

    def __init__(self, procfs: str, own: tuple[int, int]) -> None:
        """*own* is pid and start of this process as the kernel side has it."""
        self._procfs = procfs
        self._own = own[0], start_ticks(own[1])
        self._after_pid = 0
        self._rounds = 0
        self._hurries = False

    def _works(self) -> bool:
        """Whether a process can be found gone now.

        In a procfs of another PID namespace, in one that hides processes (hidepid) or is no longer
        mounted, each looks gone.
        """
        shows_others = os.access(f"{self._procfs}/1/stat", os.R_OK)
        return shows_others and is_alive(*self._own, self._procfs)

    @property
    def has_checks(self) -> bool:
        """Whether some processes were not looked at since ``resync``."""
        return self._rounds > 0

    @property
    def hurries(self) -> bool:
        """Whether there are checks for ends that are known to be lost."""
        return self._hurries and self.has_checks

    def resync(self, *, hurry: bool = False) -> None:
        """Look at every process once more: the kernel side may have missed the end of one.

        With *hurry* it has.
        """
        # In the middle of a round, those that were looked at in it need another one.
        self._rounds = (1 + (self._after_pid > 0)) if self._works() else 0
        self._hurries = hurry or self.hurries

    def gone(self, listed: Callable[[], Identities], budget_s: float = 0.0) -> Identities:
        """Return those found gone of the next few processes that *listed* gives as running.

        In a hurry it looks at more of them, for *budget_s* at most.
        """
        tgids, starts = listed()
        until_s = time.monotonic() + (budget_s if self.hurries else 0.0)
        order = np.argsort(tgids)
        gone: list[int] = []
        if not self._works():
            return tgids[gone], starts[gone]
        for looks, index in enumerate(order[tgids[order] > self._after_pid].tolist()):
            if looks >= MAX_LOOKS and time.monotonic() >= until_s:
                break
            self._after_pid = int(tgids[index])
            if not is_alive(self._after_pid, start_ticks(int(starts[index])), self._procfs):
                gone.append(index)
        else:
            self._after_pid = 0
            self._rounds -= 1
        if not self._works():  # It was unmounted meanwhile.
            gone.clear()
        return tgids[gone], starts[gone]
