"""Bounds on what others choose: how long their texts are, and how many workloads they make.

Strangers write most labels: arguments of processes, paths, names of cgroups.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import NamedTuple

LOG = logging.getLogger(__name__)


FORMULA = ("=", "+", "-", "@")
"""With what a formula of a spreadsheet begins."""


class Limit:
    """Counts how often a limit held something back; the first time is logged."""

    def __init__(self, name: str, consequence: str) -> None:
        """*name* is its value of the label ``limit``; *consequence* is for the log."""
        self.name = name
        self.count = 0
        self._consequence = consequence

    def reached(self) -> None:
        """Note that the limit held something back."""
        if not self.count:
            LOG.warning("limit %s reached: %s", self.name, self._consequence)
        self.count += 1


class MaxListed(NamedTuple):
    """How many workloads are listed at most, ended ones included; the rest is in ``[others]``."""

    processes: int = 10_000
    others: int = 2_000
    """Of each other level."""


DEFAULT_MAX = MaxListed()

MAX_LABEL_BYTES = 256
"""Bytes of a label's value, in UTF-8."""

DIGEST_BYTES = 8
SURE_LENGTH = MAX_LABEL_BYTES // 4
"""A text of so many characters is never too long."""

LABEL_LENGTH = Limit("label_bytes", f"a label is cut to {MAX_LABEL_BYTES} bytes, a hash its end")
REQUESTS = Limit("requests", "the web configuration allows no more; those beyond get status 429")
COMMON_LIMITS = (LABEL_LENGTH, REQUESTS)
"""The limits that are no part's own."""


def bounded(text: str) -> str:
    """Return *text*, or where that is too long its beginning, ``~`` and a hash of all of it.

    So two long ids stay two.
    """
    if len(text) <= SURE_LENGTH:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_LABEL_BYTES:
        return text
    LABEL_LENGTH.reached()
    end = "~" + blake2b(raw, digest_size=DIGEST_BYTES).hexdigest()
    return raw[: MAX_LABEL_BYTES - len(end)].decode("utf-8", "ignore") + end


def harmless(text: str) -> str:
    """Return *text* without what a terminal obeys."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def no_formula(text: str) -> str:
    """Return *text* so that a spreadsheet runs none of it: a formula has a ``'`` in front.

    Who opens a table may have rights that those who chose its names lack.
    """
    return f"'{text}" if text.startswith(FORMULA) else text


class Labels:
    """A frozen dataclass whose texts are ``bounded``, whoever makes it."""

    __slots__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.__slots__:
            text = getattr(self, name)
            if isinstance(text, str) and len(text) > SURE_LENGTH:
                object.__setattr__(self, name, bounded(text))
