"""A program in a terminal of its own, and what is on its screen."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from contextlib import suppress

from running import CHECKOUT

WAIT_S = 10.0

PIECES = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|([^\x1b]+)", re.DOTALL)


class ScreenRun:
    """Runs *command* in a terminal; ``lines`` is what is on it, ``raw`` all that was written."""

    def __init__(self, command, *, size=(80, 24), **environment) -> None:
        # Whoever holds the other end can see what the program has made of the terminal.
        self.controller, self.terminal = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.terminal)
        self.raw, self._parsed = b"", 0
        self.lines: dict[int, str] = {}
        self.is_full_screen = self.has_cursor = False
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.terminal, termios.TIOCSCTTY, 0)
            for descriptor in range(3):
                os.dup2(self.terminal, descriptor)
            os.closerange(3, 100)
            os.chdir(CHECKOUT)
            os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", **environment})  # noqa: S606

    def resize(self, columns, height) -> None:
        """Give the terminal another size, of which the program gets a signal."""
        size = struct.pack("HHHH", height, columns, 0, 0)
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, size)

    def press(self, keys) -> None:
        """Send keys as a terminal does."""
        os.write(self.controller, keys.encode())

    def until(self, text) -> str:
        """Read until *text* is on the screen, and return the screen."""
        give_up_at = time.monotonic() + WAIT_S
        while text not in self.screen:
            assert time.monotonic() < give_up_at, f"{text!r} is not there:\n{self.screen}"
            self._read(0.1)
        return self.screen

    def until_without(self, text) -> None:
        """Read until *text* is not on the screen."""
        give_up_at = time.monotonic() + WAIT_S
        while text in self.screen:
            assert time.monotonic() < give_up_at, f"{text!r} is there:\n{self.screen}"
            self._read(0.1)

    def until_raw(self, modes) -> None:
        """Read until the other screen was taken and left in the order of *modes*."""
        give_up_at = time.monotonic() + WAIT_S
        while (found := re.findall(r"\?1049[hl]", self.raw.decode("utf-8", "replace"))) != modes:
            assert time.monotonic() < give_up_at, found
            self._read(0.1)

    def end(self) -> int:
        """Wait for its end, and return its exit status; the terminal has been read to its end."""
        give_up_at = time.monotonic() + WAIT_S
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < give_up_at, f"it goes on:\n{self.screen}"
            self._read(0.05)
        self._read(0.05)
        return os.waitstatus_to_exitcode(ended[1])

    @property
    def screen(self) -> str:
        """The lines of the screen."""
        return "\n".join(self.lines.get(n, "") for n in range(1, max(self.lines, default=0) + 1))

    def close(self) -> None:
        """End the program, if it has not ended."""
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
        os.close(self.controller)
        os.close(self.terminal)

    def _read(self, wait_s) -> None:
        while select.select((self.controller,), (), (), wait_s)[0]:
            self.raw += os.read(self.controller, 65536)
            wait_s = 0.02
        text = self.raw.decode("utf-8", "replace")
        self.lines, row = {}, 1
        for private, figures, end, words in PIECES.findall(text):
            row = self._piece(row, private + figures, end, words)

    def _piece(self, row, figures, end, words) -> int:
        """Take in an escape, or words; return the row of the cursor."""
        if words:
            self.lines[row] = self.lines.get(row, "") + words
        elif end == "H":
            row = int(figures.partition(";")[0])
            self.lines[row] = ""
        elif end == "J":
            kept = 0 if figures == "2" else row - 1
            self.lines = {n: line for n, line in self.lines.items() if n <= kept}
        elif figures in {"?1049", "?25"}:
            name = "is_full_screen" if figures == "?1049" else "has_cursor"
            setattr(self, name, end == "h")
        return int(row)
