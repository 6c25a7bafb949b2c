"""Parsers of settings: the text of a flag or a YAML scalar to a value.

Each takes a text (a tuple of texts for a list) and returns the value. It raises ValueError for a
text that is not allowed; the message is what is allowed, to be read after "want".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from kepler_ebpf.errors import ConfigError, how_to_install
from kepler_ebpf.exporters.listen import parse_address
from kepler_ebpf.meters.zone_names import ZONE_KINDS, kind_of
from kepler_ebpf.model.selection import compile_pattern

T = TypeVar("T")
Texts = tuple[str, ...]

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
HOST_NAME = re.compile(r"\*|\w[\w.-]{0,252}", re.ASCII)
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
LISTEN_ADDRESS = (
    "HOST:PORT, :PORT or unix:/PATH, such as :28282, 127.0.0.1:28282, [::1]:28282 or "
    "unix:/run/kepler-ebpf/metrics.sock"
)
DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")


def duration_s(minimum: str, maximum: str) -> Callable[[str], float]:
    """Make a parser of durations such as ``100ms`` or ``1m30s`` within the bounds, to seconds."""
    min_s, max_s = _seconds(minimum), _seconds(maximum)

    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not min_s <= seconds <= max_s:
            raise ValueError(
                f"a duration from {minimum} to {maximum}, such as 100ms, 1s, 2m or 1m30s"
            )
        return seconds

    return parse


def _seconds(text: str) -> float:
    """Add up the parts; NaN, which is outside all bounds, where *text* is no duration."""
    parts = DURATION_PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return 0.0 if text == "0" else math.nan
    return float(sum(Decimal(number) * UNIT_NS[unit] for number, unit in parts) / UNIT_NS["s"])


def whole(text: str) -> int:
    """Parse a whole number."""
    if not WHOLE_NUMBER.fullmatch(text):
        raise ValueError("a whole number")
    return int(text)


def zero_or_within(minimum: int, maximum: int, zero: str = "automatic") -> Callable[[str], int]:
    """Make a parser of whole numbers within the bounds, and of 0, whose meaning is *zero*."""

    def parse(text: str) -> int:
        number = int(text) if WHOLE_NUMBER.fullmatch(text) else -1
        if number and not minimum <= number <= maximum:
            raise ValueError(f"0 ({zero}) or a whole number from {minimum} to {maximum}")
        return number

    return parse


def within(minimum: int, maximum: int) -> Callable[[str], int]:
    """Make a parser of whole numbers within the bounds."""

    def parse(text: str) -> int:
        number = int(text) if WHOLE_NUMBER.fullmatch(text) else minimum - 1
        if not minimum <= number <= maximum:
            raise ValueError(f"a whole number from {minimum} to {maximum}")
        return number

    return parse


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


def pattern(text: str) -> str:
    """Take a regular expression of RE2. Raises ConfigError without the library."""
    try:
        compile_pattern(text)
    except ValueError as error:
        raise ValueError(f"a regular expression of RE2; this has a fault: {error}") from None
    except ImportError:
        problem = "regular expressions need the package google-re2"
        raise ConfigError(problem, how_to_install("filters")) from None
    return text


def choice(*allowed: str) -> Callable[[str], str]:
    """Make a parser of one of the *allowed* words, in any case."""

    def parse(text: str) -> str:
        word = text.lower()
        if word not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return word

    return parse


def zone_name(text: str) -> str:
    """Take a kind of zone, or the kernel's name of one, in any case."""
    word = text.lower()
    if kind_of(word) is None:
        kinds = ", ".join(ZONE_KINDS)
        raise ValueError(f"one of {kinds}, or a kernel's name such as package-0 or psys-1")
    return word


def name(text: str) -> str:
    """Take any text that is not blank."""
    if not text.strip():
        raise ValueError("a name that is not blank")
    return text


def host(text: str) -> str:
    """Take a host's name as it stands in a URL, without port; ``*`` for any."""
    if not HOST_NAME.fullmatch(text):
        raise ValueError("a host's name without port, such as power.example.org, or *")
    return text.removesuffix(".")


def pod_label(text: str) -> str:
    """Take the key of a Kubernetes label: a name of up to 63 characters, after any prefix."""
    if not POD_LABEL.fullmatch(text):
        raise ValueError("the key of a Kubernetes label, such as app.kubernetes.io/name")
    return text


def listen_address(text: str) -> str:
    """Take ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` (0: the kernel chooses) or ``unix:/PATH``."""
    try:
        parse_address(text)
    except ConfigError as error:
        raise ValueError(LISTEN_ADDRESS) from error
    return text


def each(
    parse: Callable[[str], T], *, may_be_empty: bool = True
) -> Callable[[Texts], tuple[T, ...]]:
    """Make a parser of lists from one of items; order is kept, repeats are dropped."""

    def parse_all(texts: Texts) -> tuple[T, ...]:
        if not (texts or may_be_empty):
            raise ValueError("at least one")
        return tuple(dict.fromkeys(map(parse, texts)))

    return parse_all


def set_of(parse: Callable[[str], T]) -> Callable[[Texts], frozenset[T]]:
    """Make a parser of sets from one of items."""
    return lambda texts: frozenset(map(parse, texts))
