"""Moments as people write them: of the clock, of the calendar, or so long ago."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

FORMS = "a time such as 10m ago, -90s, 14:03, yesterday 14:03, 2026-11-26 14:03:20 or @1790000000"

UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SPAN_PART = re.compile(
    r"(\d+(?:\.\d+)?) ?(s|m|h|d|w|secs?|seconds?|mins?|minutes?|hours?|days?|weeks?)"
    r"(?![a-z])[ ,]*"
)
EPOCH = re.compile(r"@\d{1,10}(\.\d+)?|\d{9,10}(\.\d+)?")
OF_DAY = re.compile(r"(today|yesterday|y+)? ?(\d{1,2}:\d{2}(?::\d{2})?)?")


def moment_text(unix_s: float) -> str:
    """Return a Unix time in local time, as ``parse_moment`` reads it."""
    return f"{datetime.fromtimestamp(unix_s):%Y-%m-%d %H:%M:%S}"  # noqa: DTZ006  local


def parse_moment(text: str, now_s: float) -> float:
    """Return the Unix time that *text* means at the moment *now_s*. Raises ValueError.

    A span is before *now_s*, with a + after it. A time of day is the last one there was. ``y`` is
    the day before, ``yy`` two days before; a day without a time is its beginning.
    """
    words = text.strip().lower()
    if words in {"now", "0"}:
        return now_s
    if EPOCH.fullmatch(words):
        return float(words.lstrip("@"))
    sign = 1 if words.startswith("+") else -1
    span = words.removesuffix("ago").strip().lstrip("+-")
    if span and not SPAN_PART.sub("", span):
        return now_s + sign * sum(
            float(count) * UNIT_S[unit[0]] for count, unit in SPAN_PART.findall(span)
        )
    try:
        return _on_calendar(words, datetime.fromtimestamp(now_s).astimezone()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(FORMS) from error


def _on_calendar(words: str, now: datetime) -> datetime:
    of_day = OF_DAY.fullmatch(words)
    if not of_day or not words:
        return datetime.fromisoformat(words)
    day, clock = of_day[1], of_day[2]
    at = time.fromisoformat(f"0{clock}" if clock.find(":") == 1 else clock) if clock else time()
    back = 1 if day == "yesterday" else (day or "").count("y") if day != "today" else 0
    moment = datetime.combine(now.date() - timedelta(days=back), at)
    if day is None and moment > now.replace(tzinfo=None):
        moment -= timedelta(days=1)
    return moment
