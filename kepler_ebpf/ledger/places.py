"""How many workloads are listed: the places of a table, and who has them."""

from __future__ import annotations

from collections import Counter

from kepler_ebpf.model.bounds import Limit


class Places:
    """The rows that a table has to give, one for each workload, first come first served.

    An owner gets no more than are still free. So one owner has at most half of the places, and
    there is room for another however many workloads the others make.
    """

    def __init__(self, limit: Limit, count: int) -> None:
        """Give *count* places; *limit* counts how often there was none."""
        self._limit = limit
        self._free = count
        self._owners: list[str | None] = []
        self._taken: Counter[str] = Counter()

    def has_room(self, owner: str) -> bool:
        """Whether a workload of *owner* gets a place."""
        if self._taken[owner] < self._free:
            return True
        self._limit.reached()
        return False

    def take(self, row: int, owner: str) -> None:
        """Give *row* to a workload of *owner*."""
        self._owners += [None] * (row + 1 - len(self._owners))
        self._owners[row] = owner
        self._taken[owner] += 1
        self._free -= 1

    def leave(self, row: int) -> None:
        """Free the place of *row*, if it has one."""
        owner = self._owner_of(row)
        if owner is not None:
            self._owners[row] = None
            self._free += 1
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]

    def owner(self, row: int) -> str:
        """Return whose *row* is, "" where nobody has it."""
        return self._owner_of(row) or ""

    def _owner_of(self, row: int) -> str | None:
        return self._owners[row] if row < len(self._owners) else None
