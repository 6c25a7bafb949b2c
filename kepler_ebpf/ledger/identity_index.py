"""Finds table rows by identity for the records of an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model.arrays import Ints

Majors = NDArray[np.uint64]
Minors = NDArray[np.uint32]

NO_ROW = -2
"""The row of what has no row."""

_MINOR_BITS = 32


class IdentityIndex:
    """A map from (major, minor) to a row, for process starts and pids or for cgroup ids.

    A dictionary of numbers: for the records of a usual interval it is several times quicker than
    searching sorted arrays, whose code is cold by then, and no slower for thousands.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}

    def find(self, majors: Majors, minors: Minors) -> Ints:
        """Return the row of each identity, ``NO_ROW`` where there is none."""
        row_of = self._rows.get
        return np.array([row_of(key, NO_ROW) for key in _keys(majors, minors)], np.int64)

    def row(self, major: int, minor: int) -> int:
        """Return the row of one identity, ``NO_ROW`` where there is none."""
        return self._rows.get(major << _MINOR_BITS | minor, NO_ROW)

    def add(self, majors: Majors, minors: Minors, rows: Ints) -> None:
        """Enter identities that are not in the index yet."""
        self._rows.update(zip(_keys(majors, minors), rows.tolist(), strict=True))

    def discard(self, majors: Majors, minors: Minors) -> None:
        """Drop identities; those that are not in the index are left alone."""
        for key in _keys(majors, minors):
            self._rows.pop(key, None)


def _keys(majors: Majors, minors: Minors) -> list[int]:
    pairs = zip(majors.tolist(), minors.tolist(), strict=True)
    return [major << _MINOR_BITS | minor for major, minor in pairs]
