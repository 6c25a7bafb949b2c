"""Prints each interval in a thread of its own, so that the loop never waits for a reader.

One snapshot is being written and one may wait. A newer one replaces the waiting one, which is
dropped and counted.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from kepler_ebpf.host.output import Output, has_reader
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.model.snapshot import Snapshot

CLOSE_WAIT_S = 1.0
"""How long a reader has at the end to take the last snapshots."""


class Printer:
    """Prints snapshots; ``dropped`` counts the skipped ones."""

    def __init__(
        self, output: Output, render: Callable[[Snapshot], str], failed: Callable[[], None]
    ) -> None:
        """Print what *render* returns for a snapshot. Raises SetupError where *output* is closed.

        *failed* is called, in another thread, when no more can be printed; ``close`` raises why.
        """
        output.put("")
        self.dropped = 0
        # A stream has a lock, which the interpreter takes at exit, and a thread that is stuck in a
        # write would hold it: an output has none.
        self._output = output
        self._render = render
        self._failed = failed
        self._waiting: Snapshot | None = None
        self._closing = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        # The interpreter does not wait for a daemon that is stuck in a write.
        self._thread = threading.Thread(target=self._print_all, name="printer", daemon=True)
        self._thread.start()

    def take(self, snapshot: Snapshot) -> None:
        """Print *snapshot* as soon as the reader has room for it. Does not wait."""
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = snapshot
            self._changed.notify()

    def close(self) -> None:
        """Wait up to CLOSE_WAIT_S for the last snapshots.

        Raises the error that ended the printing: a SetupError, or BrokenPipeError where the
        reader went away.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_WAIT_S)
        if self._error:
            raise self._error

    def _print_all(self) -> None:
        give_up()
        try:
            while (snapshot := self._next()) is not None:
                self._print(snapshot)
        except Exception as error:  # noqa: BLE001  raised by close, in a thread that ends the run
            with self._changed:
                self._error = error
                if not self._closing:
                    self._failed()

    def _next(self) -> Snapshot | None:
        """Wait for a snapshot; None when closed and the last one was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closing)
            snapshot, self._waiting = self._waiting, None
        return snapshot

    def _print(self, snapshot: Snapshot) -> None:
        self._output.put(f"{self._render(snapshot)}\n")
        if not has_reader(self._output):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
