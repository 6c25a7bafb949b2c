"""Ranges of addresses, and which of them an address lies in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Addresses = NDArray[np.uint64]

MAX_NESTED = 64
"""So many ranges that begin within another one are passed to find that other one."""


class Ranges:
    """Ranges that may lie in each other; the innermost counts."""

    def __init__(self, starts: Addresses, ends: Addresses) -> None:
        """*starts* and *ends* (N,): an end is the first address behind its range."""
        self._order = np.argsort(starts, kind="stable")
        self.starts, self.ends = starts[self._order], ends[self._order]
        self._reach = np.maximum.accumulate(self.ends)

    def find(self, addresses: NDArray[Any]) -> NDArray[np.int64]:
        """Return for each address a place in ``starts``, the last one with this start; else -1."""
        wanted = np.asarray(addresses).astype(np.uint64)
        if not len(self.starts):
            return np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(self.starts, wanted, "right") - 1
        beside = (at < 0) | (wanted >= self.ends[at])
        for _ in range(MAX_NESTED):
            at[beside & ((at < 0) | (wanted >= self._reach[at]))] = -1
            beside &= at >= 0
            if not beside.any():
                break
            at[beside] -= 1
            beside &= (at < 0) | (wanted >= self.ends[at])
        at[beside] = -1
        return at.astype(np.int64)

    def same_start(self, at: int, most: int) -> list[int]:
        """Return as indexes into what the ranges were made of those that begin as *at* does.

        Only the last *most*, and only those that are as long as *at* or longer.
        """
        start, end = self.starts[at], self.ends[at]
        places = []
        for place in range(at, max(at - most, -1), -1):
            if self.starts[place] != start:
                break
            if self.ends[place] >= end:
                places.append(place)
        return [int(self._order[place]) for place in places]

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return sum(a.nbytes for a in (self._order, self.starts, self.ends, self._reach))
