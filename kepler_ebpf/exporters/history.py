"""The last minutes in bounded memory: the node by zone, and the workloads that used most.

A point is the difference of two snapshots' totals, so no energy is missing between points, however
far apart snapshots are. What ran in a level is kept for MAX_TRACKED workloads; a workload that uses
more than the least of them, which is forgotten, takes its slot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kepler_ebpf.exporters.query import identity
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.energy import primary_kind
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import RETIRED, WorkloadView

MAX_POINTS = 360
MIN_POINT_S = 0.9
"""Points of the ring, and the least time between two: more than five minutes are kept."""

MAX_TRACKED = 64
MAX_NEW = 24
"""Workloads of each level that are kept, and those that may begin to be in one point."""

FADING = 0.95
"""What is left of a workload's energy after each point, where it is compared with others."""


@dataclass(frozen=True, slots=True)
class Points:
    """A copy of the newest points, oldest first; shapes by points P, kinds K and workloads W.

    ``at_s`` (P,) is the end of each as a Unix time, ``length_s`` (P,) its length. ``active_uj``,
    ``idle_uj``, ``unattributed_uj`` and ``own_uj`` are (P, K). ``labels`` are those of W workloads;
    ``uj`` (P, W, K) is NaN before a workload was tracked.
    """

    kinds: tuple[str, ...]
    at_s: Floats
    length_s: Floats
    active_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
    own_uj: Floats
    labels: tuple[Any, ...]
    uj: Floats


class History:
    """The ring. ``take`` is for one thread and does not wait; ``points`` is for others."""

    def __init__(self, levels: Iterable[str]) -> None:
        """Keep the node, and the workloads of *levels*."""
        self._lock = threading.Lock()
        self._levels = {level: _Tracked() for level in levels}
        self._last: Snapshot | None = None
        self._times = np.zeros((MAX_POINTS, 2))
        self._node = np.zeros((MAX_POINTS, 4, 0))
        self._count = 0

    def take(self, snapshot: Snapshot) -> None:
        """Add a point up to *snapshot*, if it is time for one and nobody copies the ring."""
        last = self._last
        if last and snapshot.end_s - last.end_s < MIN_POINT_S:
            return
        # Where a point is left out, the next one has its energy.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if last is None:
                self._node = np.zeros((MAX_POINTS, 4, len(snapshot.kinds)))
            else:
                self._add(snapshot, last)
            self._last = snapshot
        finally:
            self._lock.release()

    def points(self, most: int = MAX_POINTS, level: str | None = None) -> Points | None:
        """Return a copy of the *most* newest points, with the workloads of *level*.

        None before the first snapshot.
        """
        with self._lock:
            if self._last is None:
                return None
            count = min(most, self._count, MAX_POINTS)
            numbers = np.arange(self._count - count, self._count)
            at, node = numbers % MAX_POINTS, self._node[numbers % MAX_POINTS]
            tracked = self._levels.get(level) if level else None
            labels, uj = tracked.copied(numbers) if tracked else ((), np.zeros((count, 0, 0)))
            at_s, length_s = self._times[at].T
            active, idle, unattributed, own = node.swapaxes(0, 1)
            kinds = self._last.kinds
            return Points(kinds, at_s, length_s, active, idle, unattributed, own, labels, uj)

    def _add(self, snapshot: Snapshot, last: Snapshot) -> None:
        number = self._count
        index = number % MAX_POINTS
        self._times[index] = snapshot.at_s, snapshot.end_s - last.end_s
        for part, uj in enumerate(_differences(snapshot, last)):
            self._node[index, part] = uj
        primary = snapshot.kinds.index(primary_kind(snapshot.kinds))
        for level, tracked in self._levels.items():
            tracked.add(number, last.workloads[level], snapshot.workloads[level], primary)
        self._count += 1


def _differences(now: Snapshot, before: Snapshot) -> Iterator[Floats]:
    """Yield what was active, idle, unattributed and our own since *before*, each (kinds,)."""
    kinds = [now.kinds.index(zone.kind) for zone in now.node.zones]
    for name in ("active_uj", "idle_uj", "unattributed_uj"):
        sums: Floats = np.zeros(len(now.kinds))
        np.add.at(sums, kinds, getattr(now.node, name) - getattr(before.node, name))
        yield sums
    yield now.stats.own.energy_uj - before.stats.own.energy_uj


class _Tracked:
    """The workloads of one level that have used most: each has a slot."""

    def __init__(self) -> None:
        self._labels: list[Any] = [None] * MAX_TRACKED
        self._slots: dict[Any, int] = {}
        self._rows: Ints = np.full(MAX_TRACKED, -1)
        self._since: Ints = np.zeros(MAX_TRACKED, np.int64)
        self._score: Floats = np.zeros(MAX_TRACKED)
        self._uj = np.zeros((MAX_POINTS, MAX_TRACKED, 0), np.float32)

    def add(self, number: int, before: WorkloadView, now: WorkloadView, primary: int) -> None:
        """Add point *number*: what each used between two views of the level."""
        if not self._uj.shape[2]:
            self._uj = np.zeros((MAX_POINTS, MAX_TRACKED, now.energy_uj.shape[1]), np.float32)
        used = _used(before, now)
        self._find_rows(now)
        column = self._uj[number % MAX_POINTS]
        has_row = self._rows >= 0
        column[:] = 0
        column[has_row] = used[self._rows[has_row]]
        self._score = FADING * self._score + column[:, primary]
        for row in _highest(used[:, primary]):
            if getattr(now.labels[row], "comm", "") != RETIRED:
                self._track(number, row, now.labels[row], used[row], primary)

    def copied(self, numbers: Ints) -> tuple[tuple[Any, ...], Floats]:
        """Return the labels of the slots in use, and what each used in these points."""
        slots = [slot for slot, labels in enumerate(self._labels) if labels is not None]
        uj = self._uj[numbers % MAX_POINTS][:, slots].astype(np.float64)
        uj[numbers[:, np.newaxis] < self._since[slots]] = np.nan
        return tuple(self._labels[slot] for slot in slots), uj

    def _find_rows(self, now: WorkloadView) -> None:
        """Find the row of each slot again, and learn its new labels; it may have none any more."""
        for slot in np.flatnonzero(self._rows >= 0).tolist():
            row, old = int(self._rows[slot]), self._labels[slot]
            labels = now.labels[row] if row < len(now.labels) else None
            if labels is None or (labels is not old and identity(labels) != identity(old)):
                self._rows[slot] = -1
            else:
                self._labels[slot] = labels

    def _track(self, number: int, row: int, labels: Any, used: Floats, primary: int) -> None:
        """Give the workload of *row* a slot, where it has none and used more than another."""
        key = identity(labels)
        slot = self._slots.get(key)
        if slot is None:
            slot = int(np.argmin(self._score))
            if self._score[slot] >= used[primary]:
                return
            if self._labels[slot] is not None:
                del self._slots[identity(self._labels[slot])]
            self._slots[key], self._since[slot], self._score[slot] = slot, number, 0.0
        elif self._rows[slot] == row:
            return
        self._labels[slot], self._rows[slot] = labels, row
        self._uj[number % MAX_POINTS, slot] = used
        self._score[slot] += used[primary]


def _used(before: WorkloadView, now: WorkloadView) -> Floats:
    """Return what each row of *now* used since *before*, (rows, kinds)."""
    used, known = now.energy_uj.copy(), min(len(before.labels), len(now.labels))
    used[:known] -= before.energy_uj[:known]
    if before.labels is not now.labels:
        pairs = enumerate(zip(before.labels, now.labels, strict=False))
        for row in [row for row, (old, new) in pairs if old is not new and new is not None]:
            old = before.labels[row]
            if old is None or identity(old) != identity(now.labels[row]):
                used[row] = now.energy_uj[row]  # another workload has taken the row
    # One that was listed no longer meanwhile may be in its row again, and counts from 0.
    is_anew = (used < 0).any(axis=1)
    used[is_anew] = now.energy_uj[is_anew]
    return used


def _highest(uj: Floats) -> list[int]:
    """Return the rows that used most, of those that used something."""
    rows = np.flatnonzero(uj > 0)
    if len(rows) > MAX_NEW:
        rows = rows[np.argpartition(-uj[rows], MAX_NEW)[:MAX_NEW]]
    found: list[int] = rows.tolist()
    return found
