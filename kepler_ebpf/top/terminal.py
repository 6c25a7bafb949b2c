"""The terminal as a full screen, and as it was before. It needs ANSI's escapes and nothing else."""

from __future__ import annotations

import os
import select
import termios
import threading
import tty
from collections.abc import Sequence
from contextlib import suppress

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The other screen, without a cursor, and long lines are cut."""

LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"

WAIT_S = 1.0
"""A terminal that does not read is given up after this."""

ESCAPE_S = 0.05
"""What belongs to an escape comes within this, over a slow line as well."""

KEYS = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}


class Terminal:
    """A screen of lines, and keys. Any thread may ``restore`` it, at any moment, more than once."""

    def __init__(self, keys: int, screen: int, encoding: str) -> None:
        """Read from the descriptor *keys*, write to *screen*. Raises termios.error."""
        self._keys, self._screen, self._encoding = keys, screen, encoding
        self._before = termios.tcgetattr(keys)
        self._shown: list[str] = []
        self._is_entered = False
        self._lock = threading.Lock()

    @property
    def is_utf8(self) -> bool:
        """Whether more than ASCII can be shown."""
        return self._encoding.lower().replace("-", "") == "utf8"

    def size(self) -> tuple[int, int]:
        """Return the columns and the lines."""
        with suppress(OSError):
            size = os.get_terminal_size(self._screen)
            if size.columns and size.lines:
                return size.columns, size.lines
        return 80, 24

    def enter(self) -> None:
        """Take the screen, or take it again: the next ``show`` writes all of it."""
        tty.setcbreak(self._keys, termios.TCSANOW)
        with self._lock:
            self._is_entered, self._shown = True, []
            self._write(ENTER)

    def restore(self) -> None:
        """Give the terminal back as it was."""
        termios.tcsetattr(self._keys, termios.TCSANOW, self._before)
        # A thread that is stuck in a write has the lock: there is no more to be done then.
        if self._lock.acquire(timeout=WAIT_S):
            try:
                if self._is_entered and select.select((), (self._screen,), (), WAIT_S)[1]:
                    self._write(LEAVE)
                self._is_entered = False
            finally:
                self._lock.release()

    def show(self, lines: Sequence[str]) -> None:
        """Write the lines that have changed."""
        with self._lock:
            if not self._is_entered:
                return
            before = self._shown + [""] * (len(lines) - len(self._shown))
            changed = [
                f"\x1b[{number};1H{line}\x1b[0m\x1b[K"
                for number, (line, old) in enumerate(zip(lines, before, strict=False), 1)
                if line != old
            ]
            rest = f"\x1b[{len(lines) + 1};1H\x1b[J" if len(self._shown) > len(lines) else ""
            self._shown = list(lines)
            if changed or rest:
                self._write("".join(changed) + rest)

    def redraw(self) -> None:
        """Have the next ``show`` write everything, after a change of the size."""
        with self._lock:
            self._shown = []
            if self._is_entered:
                self._write("\x1b[2J")

    def read_keys(self) -> list[str] | None:
        """Return the keys that were pressed, by name or as characters; None: it was closed."""
        try:
            data = os.read(self._keys, 256)
            while data.endswith((b"\x1b", b"\x1b[", b"\x1bO")):
                if not select.select((self._keys,), (), (), ESCAPE_S)[0]:
                    break
                data += os.read(self._keys, 256)
        except OSError:
            return None
        return keys_of(data.decode("utf-8", "ignore")) if data else None

    def _write(self, text: str) -> None:
        left = memoryview(text.encode(self._encoding, "replace"))
        while left:
            try:
                left = left[os.write(self._screen, left) :]
            except BlockingIOError:
                select.select((), (self._screen,), ())


def keys_of(text: str) -> list[str]:
    """Return the keys that a terminal sends as *text*; what is not known is left out."""
    keys = []
    while text:
        length = _length(text)
        key, text = text[:length], text[length:]
        if key in KEYS:
            keys.append(KEYS[key])
        elif len(key) == 1 and key.isprintable():
            keys.append(key)
    return keys


def _length(text: str) -> int:
    """Return how long the first key is: an escape ends with a letter or ~."""
    if text[0] != "\x1b" or len(text) == 1 or text[1] not in "[O":
        return 1
    ends = (at for at in range(2, len(text)) if text[at].isalpha() or text[at] == "~")
    return next(ends, len(text) - 1) + 1
