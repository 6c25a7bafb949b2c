"""What an HTTP client accepts: the lists in its Accept headers."""

from __future__ import annotations

import re
from typing import NamedTuple

_QUALITY = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class Accepted(NamedTuple):
    """One entry of a list: its name, how much it is wanted (up to 1), and all of its text."""

    name: str
    quality: float
    text: str


def accepted(header: str) -> list[Accepted]:
    """Return what *header* lists, most wanted first, without what it refuses by ``q=0``."""
    entries = [_entry(text.strip().lower()) for text in header.split(",")]
    return sorted((each for each in entries if each.quality), key=lambda each: -each.quality)


def _entry(text: str) -> Accepted:
    name, *parameters = (part.strip() for part in text.split(";"))
    qualities = (found for part in parameters if (found := _QUALITY.fullmatch(part)))
    return Accepted(name, next((float(found[1]) for found in qualities), 1.0), text)
