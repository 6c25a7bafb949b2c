"""Shows snapshots on a terminal, in a thread of its own, and follows keys."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack

from kepler_ebpf.exporters.query import Query
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.top.screen import Screen
from kepler_ebpf.top.terminal import Terminal

CLOSE_WAIT_S = 1.0


class Live:
    """The terminal from now on until ``close``. For the main thread, which has the signals."""

    def __init__(
        self, keys: int, terminal: Terminal, query: Query, stop: Callable[[], None]
    ) -> None:
        """Show what *query* finds; *stop* is called when that is to end."""
        self._keys, self._terminal, self._stop = keys, terminal, stop
        self._screen = Screen(query, stop, is_utf8=terminal.is_utf8)
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: Snapshot | None = None
        self._is_resized = self._closing = False
        self._error: Exception | None = None
        self._signals = ExitStack()
        for number, handler in (
            (signal.SIGWINCH, self._resized),
            (signal.SIGTSTP, self._suspended),
            (signal.SIGCONT, self._continued),
        ):
            self._signals.callback(signal.signal, number, signal.signal(number, handler))
        terminal.enter()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def take(self, snapshot: Snapshot) -> None:
        """Show *snapshot* soon. Does not wait."""
        self._waiting = snapshot
        self._wake()

    def close(self) -> None:
        """Give the terminal back; raises what ended the thread."""
        self._closing = True
        self._wake()
        self._thread.join(CLOSE_WAIT_S)
        self._signals.close()
        self._terminal.restore()
        if self._error:
            raise self._error

    # --- signals

    def _resized(self, *_: object) -> None:
        self._is_resized = True
        self._wake()

    def _suspended(self, *_: object) -> None:
        """Stop as every program does, with the terminal as it was."""
        self._terminal.restore()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        # Where no shell could continue it, the kernel has not stopped it.
        self._continued()

    def _continued(self, *_: object) -> None:
        self._terminal.enter()
        self._resized()

    # --- the thread

    def _wake(self) -> None:
        os.eventfd_write(self._event, 1)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._terminal.show(self._screen.lines(*self._terminal.size()))
                self._wait()
        except OSError:
            # There is no terminal any more.
            self._stop()
        except Exception as error:  # noqa: BLE001  raised by close, in a thread that ends the run
            self._error = error
            self._stop()

    def _wait(self) -> None:
        """Wait for a key, a snapshot or another size, and take it in."""
        ready, _, _ = select.select((self._keys, self._event), (), ())
        if self._event in ready:
            os.eventfd_read(self._event)
        if self._keys in ready:
            keys = self._terminal.read_keys()
            if keys is None:
                self._closing = True
                self._stop()
            for key in keys or ():
                self._screen.press(key)
                if not self._screen.is_typing:
                    # The next key is about what this one has made of the screen.
                    self._screen.lines(*self._terminal.size())
        if self._is_resized:
            self._is_resized = False
            self._terminal.redraw()
        snapshot, self._waiting = self._waiting, None
        if snapshot is not None:
            self._screen.history.add(frame_of(snapshot))
