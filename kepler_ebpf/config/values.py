"""From the text of a flag or a YAML scalar to a value, one parser for each kind of setting.

Every parser takes text (or a tuple of texts, for lists) and returns the value. What it refuses
is a ValueError whose message says what would be allowed, to be read after "want".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

T = TypeVar("T")
Texts = tuple[str, ...]

ZONE_KINDS = ("package", "core", "uncore", "dram", "psys")
"""As ``model.ZONE_KINDS``, which is not imported: it would cost ``--help`` the import of numpy."""

TRUE_WORDS = ("true", "yes", "on")
FALSE_WORDS = ("false", "no", "off")

UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
POD_LABEL = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
MAX_PORT = 65_535


def duration_s(lowest: str, highest: str) -> Callable[[str], float]:
    """Make a parser of durations such as ``100ms`` or ``1m30s`` within the bounds, to seconds."""
    low_s, high_s = _seconds(lowest), _seconds(highest)

    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not low_s <= seconds <= high_s:
            raise ValueError(
                f"a duration from {lowest} to {highest}, such as 100ms, 1s, 2m or 1m30s"
            )
        return seconds

    return parse


def _seconds(text: str) -> float:
    """Add up the parts; NaN, which is within no bounds, where *text* is no duration."""
    parts = DURATION_PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return 0.0 if text == "0" else math.nan
    return float(sum(Decimal(number) * UNIT_NS[unit] for number, unit in parts) / UNIT_NS["s"])


def whole(lowest: int | None = None, highest: int | None = None) -> Callable[[str], int]:
    """Make a parser of whole numbers within the bounds; None is unbounded."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
        if number is None or not _within(number, lowest, highest):
            raise ValueError(f"a whole number{_bounds(lowest, highest)}")
        return number

    return parse


def _within(number: int, lowest: int | None, highest: int | None) -> bool:
    return (lowest is None or number >= lowest) and (highest is None or number <= highest)


def _bounds(lowest: int | None, highest: int | None) -> str:
    low = "" if lowest is None else f" from {lowest}"
    return low if highest is None else f"{low} to {highest}"


def zero_or(parse: Callable[[str], int]) -> Callable[[str], int]:
    """Make a parser that also takes 0, which stands for automatic."""

    def parse_or_zero(text: str) -> int:
        try:
            return 0 if text == "0" else parse(text)
        except ValueError as error:
            raise ValueError(f"0 (automatic) or {error}") from error

    return parse_or_zero


def joules(text: str) -> float:
    """Parse an energy: a finite number of joules, 0 or more, without a unit."""
    try:
        energy_j = float(text)
    except ValueError:
        energy_j = math.nan
    if not 0 <= energy_j < math.inf:
        raise ValueError("a number of joules, 0 or more, without a unit")
    return energy_j


def boolean(text: str) -> bool:
    """Parse true or false, and YAML's other words for them."""
    word = text.lower()
    if word not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError("true or false")
    return word in TRUE_WORDS


def choice(*allowed: str) -> Callable[[str], str]:
    """Make a parser of one of the *allowed* words, in any case."""

    def parse(text: str) -> str:
        word = text.lower()
        if word not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return word

    return parse


def anything(text: str) -> str:
    """Take any text, the empty one too."""
    return text


def name(text: str) -> str:
    """Take any text that is not blank."""
    if not text.strip():
        raise ValueError("a name that is not blank")
    return text


def pod_label(text: str) -> str:
    """Take the key of a Kubernetes label: a name of up to 63 characters, a prefix before it."""
    if not POD_LABEL.fullmatch(text):
        raise ValueError("the key of a Kubernetes label, such as app.kubernetes.io/name")
    return text


def listen_address(text: str) -> str:
    """Take ``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT``; port 0 lets the kernel choose one."""
    host, colon, port = text.rpartition(":")
    ambiguous = ":" in host and not (host.startswith("[") and host.endswith("]"))
    fits = re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= MAX_PORT
    if not colon or ambiguous or not fits or any(map(str.isspace, host)):
        raise ValueError("HOST:PORT or :PORT, such as :28282, 127.0.0.1:28282 or [::1]:28282")
    return text


def each(parse: Callable[[str], T]) -> Callable[[Texts], tuple[T, ...]]:
    """Make a parser of lists from one of items; order is kept, repeats are dropped."""

    def parse_all(texts: Texts) -> tuple[T, ...]:
        return tuple(dict.fromkeys(parse(text) for text in texts))

    return parse_all


def at_least_one(parse: Callable[[str], T]) -> Callable[[Texts], tuple[T, ...]]:
    """Make a parser like ``each`` that refuses the empty list."""

    def parse_some(texts: Texts) -> tuple[T, ...]:
        if not texts:
            raise ValueError("at least one")
        return each(parse)(texts)

    return parse_some


def set_of(parse: Callable[[str], T]) -> Callable[[Texts], frozenset[T]]:
    """Make a parser of sets from one of items."""

    def parse_set(texts: Texts) -> frozenset[T]:
        return frozenset(map(parse, texts))

    return parse_set
