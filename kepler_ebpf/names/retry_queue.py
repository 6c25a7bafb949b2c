"""Things that wait for something better, looked at again a few at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Waiting(Generic[K, V]):
    """Keys that wait, each with what is known of it so far."""

    def __init__(self, limit: int) -> None:
        """Hold at most *limit* keys; the one that came first makes room."""
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self._due: deque[K] = deque()

    def add(self, key: K, value: V) -> None:
        """Let *key* wait, until the next ``wake`` at least."""
        self._values[key] = value
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def wake(self) -> None:
        """Make all that wait due."""
        self._due = deque(self._values)

    def take(self, count: int) -> list[tuple[K, V]]:
        """Take out up to *count* of those that are due."""
        keys = [self._due.popleft() for _ in range(min(count, len(self._due)))]
        return [(key, self._values.pop(key)) for key in keys if key in self._values]
