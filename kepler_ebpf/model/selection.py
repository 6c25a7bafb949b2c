"""Which workloads get rows of their own, by the user's choice; all others share rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

KNOWN_VERDICTS = 4_096
"""Texts whose verdict is remembered; a comm comes again and again."""


def compile_pattern(pattern: str) -> Any:
    """Compile a regular expression of RE2, which takes a time linear in the text, whatever it is.

    Raises ValueError with what is wrong with *pattern*, and ImportError without the library.
    """
    import re2  # noqa: PLC0415  an extra; few runs filter

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(b"".join(error.args).decode("utf-8", "replace")) from None


class Filter:
    """Takes texts that one of the patterns *allow* matches, and none of *deny* does.

    Each matches a whole text. Without *allow* all are allowed.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = [compile_pattern(pattern) for pattern in allow]
        self._deny = [compile_pattern(pattern) for pattern in deny]
        self.takes_all = not (self._allow or self._deny)
        self.takes = lru_cache(KNOWN_VERDICTS)(self._takes)

    def _takes(self, text: str) -> bool:
        clean = text.encode("utf-8", "replace").decode()
        is_allowed = not self._allow or any(each.fullmatch(clean) for each in self._allow)
        return is_allowed and not any(each.fullmatch(clean) for each in self._deny)


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Selection:
    """What must hold for a process to be listed, and of ``cgroup`` and ``namespace`` for a group.

    At most ``top_n`` processes are listed, those that used most lately; 0 is no limit. Each has
    used at least ``min_uj`` in the ranking zone. ``comm`` is the name of the process, ``cgroup``
    the path of the cgroup and ``namespace`` that of the pod, "" outside of pods. ``always`` is the
    pid of a process that is listed in any case.
    """

    top_n: int = 0
    min_uj: float = 0.0
    comm: Filter = EVERYTHING
    cgroup: Filter = EVERYTHING
    namespace: Filter = EVERYTHING
    always: int = 0

    @property
    def selects_all(self) -> bool:
        """Whether nothing is left out."""
        filters = self.comm, self.cgroup, self.namespace
        return not (self.top_n or self.min_uj) and all(each.takes_all for each in filters)


ALL = Selection()
