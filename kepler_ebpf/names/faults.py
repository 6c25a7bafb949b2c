"""Faults of naming: each costs names, and never the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

LOG = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Faults:
    """Counts faults; the first of each kind is logged with its traceback."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: set[tuple[str, str]] = set()

    def note(self, doing: str, error: Exception) -> None:
        """Count the *error* that ended what was *doing*."""
        self.count += 1
        kind = doing, type(error).__name__
        if kind not in self._kinds:
            self._kinds.add(kind)
            LOG.error("Naming (%s) failed: names are missing", doing, exc_info=error)


class _HasFaults(Protocol):
    faults: Faults


S = TypeVar("S", bound=_HasFaults)
Method = Callable[Concatenate[S, P], T]


def tolerated(fallback: Callable[..., object]) -> Callable[[Method[S, P, T]], Method[S, P, T]]:
    """Make a method return what *fallback* does where it raises; its ``faults`` count that."""

    def decorate(method: Method[S, P, T]) -> Method[S, P, T]:
        @wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001
                self.faults.note(method.__name__, error)
                return cast(T, fallback(self, *args, **kwargs))

        return call

    return decorate
