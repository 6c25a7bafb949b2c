"""SIGINT and SIGTERM, which end what is measured without a command."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack


class Stop:
    """Notes a signal, of which a second one ends the program; *stack* gives the signals back."""

    def __init__(self, stack: ExitStack) -> None:
        self._event = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, self._stop))

    def within(self, wait_s: float) -> bool:
        """Wait no longer than *wait_s* for a signal; return whether one has come."""
        return self._event.wait(wait_s)

    def _stop(self, number: int, _: object) -> None:
        self._event.set()
        # Writing may wait for a reader that does not read.
        signal.signal(number, signal.SIG_DFL)
