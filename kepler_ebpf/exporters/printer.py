"""Prints each interval in a thread of its own, so that the loop never waits for a reader.

One snapshot is being written and one may wait. A newer one replaces the waiting one, which is
dropped and counted.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.model.snapshot import Snapshot

CLOSE_WAIT_S = 1.0
"""How long a reader has at the end to take the last snapshots."""

REMEDY = "redirect it to a file or a pipe that can be written, or leave out --exporter.stdout"


class Printer:
    """Prints snapshots to the standard output; ``dropped`` counts the skipped ones."""

    def __init__(
        self, stream: TextIO | None, render: Callable[[Snapshot], str], failed: Callable[[], None]
    ) -> None:
        """Print what *render* returns for a snapshot. Raises SetupError where *stream* is None.

        *failed* is called, in another thread, when no more can be printed; ``close`` raises why.
        """
        if stream is None:
            raise SetupError("cannot write to the standard output: it is closed", REMEDY)
        self.dropped = 0
        self._descriptor, self._encoding = stream.fileno(), stream.encoding
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

        Raises the error that ended the printing: a KeplerError, or BrokenPipeError where the
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
        text = f"{self._render(snapshot)}\n".encode(self._encoding, "replace")
        try:
            self._write(memoryview(text))
        except BrokenPipeError:
            raise
        except OSError as error:
            problem = f"cannot write to the standard output: {error.strerror}"
            raise KeplerError(problem, REMEDY) from error

    def _write(self, left: memoryview) -> None:
        # Not through the stream: a thread stuck in a write would hold the stream's lock, which the
        # interpreter takes at exit.
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                # Another program that shares the output may have made it non-blocking.
                select.select((), (self._descriptor,), ())
