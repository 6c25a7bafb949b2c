"""The log on stderr: text or JSON lines, without repetitions.

A message that repeats (a zone that fails at every tick) is logged again only every few minutes,
with the number of repetitions. Every record is one line, whatever names it contains.
"""

from __future__ import annotations

import json
import logging
import math
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

QUIET_S = 300.0
"""A message that was logged is not logged again for this time."""

MAX_REMEMBERED = 1_024
"""Number of messages that are remembered; then all are forgotten and may be logged again."""

PIECE = 400
"""Characters that are written at once. In every encoding they fit into the 4 KiB for which a pipe
that is ready has room."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def set_up(level: str = "info", form: str = "text", stream: TextIO | None = None) -> None:
    """Send the log to *stream* (stderr) as "text" or "json", from *level* upwards.

    Other packages log from "warn" upwards at most: their debug messages are not ours.
    """
    handler = NonBlockingHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("kepler_ebpf").setLevel(LEVELS[level])


class NonBlockingHandler(logging.StreamHandler[TextIO]):
    """Drops what its stream has no room for: the loop must not wait for a reader of the log."""

    _is_cut = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether there is room for *record*, before a filter notes it as logged."""
        return self._has_room() and super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write as much of *record* as can be written without a wait."""
        try:
            text = "\n" * self._is_cut + self.format(record) + self.terminator
            for start in range(0, len(text), PIECE):
                if not self._has_room():
                    self._is_cut |= start > 0
                    return
                self.stream.write(text[start : start + PIECE])
                self.flush()
            self._is_cut = False
        except Exception:  # noqa: BLE001  as the base does
            self.handleError(record)

    def _has_room(self) -> bool:
        try:
            return bool(select.select((), (self.stream,), (), 0)[1])
        except (OSError, TypeError, ValueError):
            # No descriptor, or a bad one: a write to it does not block.
            return True


class RepeatFilter(logging.Filter):
    """Drops a message that was logged within QUIET_S; the next one that passes has their count.

    All debug messages pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[tuple[int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* passes; adds the number of dropped ones to its message."""
        if record.levelno <= logging.DEBUG:
            return True
        now_s, key = self._clock(), (record.levelno, record.getMessage())
        logged_s, dropped = self._logged.get(key, (-math.inf, 0))
        if now_s - logged_s < QUIET_S:
            self._logged[key] = (logged_s, dropped + 1)
            return False
        if len(self._logged) >= MAX_REMEMBERED:
            self._logged.clear()
        self._logged[key] = (now_s, 0)
        if dropped:
            record.msg, record.args = f"{key[1]} (repeated {dropped} more times)", ()
        return True


class TextLines(logging.Formatter):
    """Time, level and message; line breaks in the message become semicolons, the rest is escaped.

    A terminal would obey a control character, and a server, a user or a file may have put it there.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write *record* as a line; an exception's traceback follows on lines of its own."""
        message = "; ".join(record.getMessage().splitlines())
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        lines = [f"{_time(record)} {_level(record):5} {message}", *trace]
        return "\n".join(map(_printable, lines))


class JsonLines(logging.Formatter):
    """One JSON object in each line: time, level, msg, logger and, for a bug, its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Write *record* as a line of JSON."""
        fields = {
            "time": _time(record),
            "level": _level(record),
            "msg": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _printable(message: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _level(record: logging.LogRecord) -> str:
    return {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
