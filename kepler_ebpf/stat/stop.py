"""Signals that end what is measured: without a command, or the runs of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from contextlib import ExitStack

from kepler_ebpf.stat.command import BY_SIGNAL, FROM_TERMINAL


class Stop:
    """Notes a signal; *stack* gives the signals back.

    While a ``Command`` runs, all of them go to it. Without one, a second one ends the program.
    """

    def __init__(
        self, stack: ExitStack, numbers: Iterable[int] = (signal.SIGINT, signal.SIGTERM)
    ) -> None:
        self.status: int | None = None
        """The exit status that the signal stands for, None before one has come."""
        self._event = threading.Event()
        for number in numbers:
            stack.callback(signal.signal, number, signal.signal(number, self._stop))

    def within(self, wait_s: float) -> bool:
        """Wait no longer than *wait_s* for a signal; return whether one has come."""
        return self._event.wait(wait_s)

    def forget(self) -> None:
        """Go on as if none had come."""
        self.status = None
        self._event.clear()

    def _stop(self, number: int, _: object) -> None:
        self.status = self.status or BY_SIGNAL + number
        self._event.set()
        if signal.getsignal(number) == self._stop:
            # Writing may wait for a reader that does not read.
            signal.signal(number, signal.SIG_DFL)


def stop_of_runs(stack: ExitStack) -> Stop:
    """Return what notes each signal that ends runs of commands.

    What the caller has had ignored stays ignored, as it does in the commands.
    """
    ending = (*FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP)
    return Stop(stack, [each for each in ending if signal.getsignal(each) != signal.SIG_IGN])
