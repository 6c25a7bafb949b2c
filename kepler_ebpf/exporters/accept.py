"""What an HTTP client accepts: the lists in its Accept headers."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_CHARS = 1024
"""What is read of a list; browsers and Prometheus send a quarter of it."""

_QUALITY = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class Accepted(NamedTuple):
    """One entry of a list: its name, its quality (0 to 1), and all of its text."""

    name: str
    quality: float
    text: str


def accepted(header: str) -> list[Accepted]:
    """Return the entries of *header* by falling quality, without those of ``q=0``.

    Only the first MAX_CHARS are read.
    """
    entries = [_entry(text.strip().lower()) for text in header[:MAX_CHARS].split(",")]
    return sorted((item for item in entries if item.quality), key=lambda item: -item.quality)


def _entry(text: str) -> Accepted:
    name, *parameters = (part.strip() for part in text.split(";"))
    matches = (match for part in parameters if (match := _QUALITY.fullmatch(part)))
    return Accepted(name, next((float(match[1]) for match in matches), 1.0), text)
