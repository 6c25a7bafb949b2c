"""Finds table rows by identity for whole arrays of records at once."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model import Bools, Ints

Majors = NDArray[np.uint64]
Minors = NDArray[np.uint32]

T = TypeVar("T", bound=np.generic)

NO_ROW = -2
"""The row of what has no row."""


class IdentityIndex:
    """A sorted map from (major, minor) to a row, for process starts and pids or for cgroup ids.

    Sorted by the sum of both, which tells kernel threads that started in the same instant of the
    boot apart and still puts what started last at the end. Identities with the same sum lie side
    by side, and a lookup tries as many of them as ever shared one: nearly always one.
    """

    def __init__(self) -> None:
        # The last entry is a stop for lookups beyond the end; it is nobody's identity.
        self._sums: Majors = np.array([np.iinfo(np.uint64).max], np.uint64)
        self._majors: Majors = np.array([np.iinfo(np.uint64).max], np.uint64)
        self._minors: Minors = np.array([np.iinfo(np.uint32).max], np.uint32)
        self._rows: Ints = np.array([NO_ROW])
        self._longest_run = 1

    def find(self, majors: Majors, minors: Minors) -> Ints:
        """Return the row of each identity, ``NO_ROW`` where there is none."""
        at, hit = self._places(majors, minors)
        return np.where(hit, self._rows[at], NO_ROW)

    def add(self, majors: Majors, minors: Minors, rows: Ints) -> None:
        """Enter identities, at least one, that are not in the index yet."""
        sums = majors + minors
        order = np.argsort(sums, kind="stable")
        sums = sums[order]
        at = np.searchsorted(self._sums, sums) + np.arange(len(sums))
        self._sums = _spliced(self._sums, at, sums)
        self._majors = _spliced(self._majors, at, majors[order])
        self._minors = _spliced(self._minors, at, minors[order])
        self._rows = _spliced(self._rows, at, rows[order])
        runs = np.searchsorted(self._sums, sums, "right") - np.searchsorted(self._sums, sums)
        self._longest_run = max(self._longest_run, int(runs.max()))

    def discard(self, majors: Majors, minors: Minors) -> None:
        """Drop identities; those that are not in the index are left alone."""
        at, hit = self._places(majors, minors)
        keep = np.ones(len(self._rows), np.bool_)
        keep[at[hit]] = False
        self._sums = self._sums[keep]
        self._majors = self._majors[keep]
        self._minors = self._minors[keep]
        self._rows = self._rows[keep]

    def _places(self, majors: Majors, minors: Minors) -> tuple[Ints, Bools]:
        """Return the entry of each identity and whether it is there at all."""
        at = self._sums.searchsorted(majors + minors)
        hit = self._is_at(at, majors, minors)
        for step in range(1, self._longest_run):
            later = np.minimum(at + step, len(self._rows) - 1)
            found = self._is_at(later, majors, minors)
            at = np.where(found, later, at)
            hit |= found
        return at, hit

    def _is_at(self, at: Ints, majors: Majors, minors: Minors) -> Bools:
        is_at: Bools = (self._majors[at] == majors) & (self._minors[at] == minors)
        return is_at


def _spliced(old: NDArray[T], at: Ints, new: NDArray[T]) -> NDArray[T]:
    """Return *old* with *new* standing at the places *at*, rising, which count in the result."""
    # What is new started last, so nearly all of the old stays in front of it.
    head = int(at[0])
    tail = np.empty(len(old) + len(new) - head, old.dtype)
    is_new = np.zeros(len(tail), np.bool_)
    is_new[at - head] = True
    tail[is_new] = new
    tail[~is_new] = old[head:]
    return np.concatenate((old[:head], tail))
