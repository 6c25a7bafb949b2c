"""The log on stderr: text or JSON lines, and quiet after the start.

What happens once is said once; what repeats (a zone that fails at every tick) is said again only
every few minutes, with a count. Every record is one line, whatever names it contains.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

QUIET_S = 300.0
"""A message already said is not said again for this long."""

REMEMBERED = 1_024
"""Most messages remembered; beyond that all are forgotten, and may be said anew."""

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def set_up(level: str = "info", form: str = "text", stream: TextIO | None = None) -> None:
    """Send the log to *stream* (stderr) as "text" or "json", from *level* upwards.

    Other packages are heard from "warn" upwards at most: their debugging is not ours.
    """
    handler = Unwaiting(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("kepler_ebpf").setLevel(LEVELS[level])


class Unwaiting(logging.StreamHandler[TextIO]):
    """Leaves out what its reader has no room for: who measures never waits for who reads."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record* where that can be done at once."""
        if self._has_room():
            super().emit(record)

    def _has_room(self) -> bool:
        try:
            return bool(select.select((), (self.stream,), (), 0)[1])
        except (OSError, TypeError, ValueError):
            # No descriptor, or a bad one: nothing that keeps us waiting.
            return True


class Repeats(logging.Filter):
    """Drops a message seen within the last *quiet_s*; the next one let through tells how many.

    Debug messages all pass: who asks for them wants every one.
    """

    def __init__(
        self, quiet_s: float = QUIET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._quiet_s = quiet_s
        self._clock = clock
        self._said: dict[tuple[int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on one record, adding the count of those dropped before it."""
        if record.levelno <= logging.DEBUG:
            return True
        key = (record.levelno, record.getMessage())
        said_s, dropped = self._said.get(key, (-self._quiet_s, 0))
        if self._clock() - said_s < self._quiet_s:
            self._said[key] = (said_s, dropped + 1)
            return False
        self._remember(key)
        if dropped:
            record.msg, record.args = f"{key[1]} ({dropped} more times since)", ()
        return True

    def _remember(self, key: tuple[int, str]) -> None:
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said[key] = (self._clock(), 0)


class TextLines(logging.Formatter):
    """Time, level and message; line breaks within the message become semicolons."""

    def format(self, record: logging.LogRecord) -> str:
        """Write *record* as a line; an exception's traceback follows on lines of its own."""
        message = "; ".join(record.getMessage().splitlines())
        line = f"{_time(record)} {_level(record):5} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


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


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _level(record: logging.LogRecord) -> str:
    return {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
