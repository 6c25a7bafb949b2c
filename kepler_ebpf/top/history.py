"""The last minutes, bounded: the newest interval whole, earlier ones with their highest rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Iterable

import numpy as np

from kepler_ebpf.exporters.frame import Frame, Rows
from kepler_ebpf.exporters.query import identity

MAX_FRAMES = 300
MAX_ROWS = 100
"""Rows of each view that are kept of an earlier interval."""


class History:
    """Frames by time. One may be held: it is shown while others come."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=MAX_FRAMES)
        self._held: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Append the newest interval."""
        if self._frames:
            self._frames.append(self._frames.pop().trimmed(MAX_ROWS, identity))
        self._frames.append(frame)

    @property
    def shown(self) -> Frame | None:
        """The frame that is held, else the newest; None before the first."""
        return self._held or self.newest

    @property
    def newest(self) -> Frame | None:
        """The last frame, None before the first."""
        return self._frames[-1] if self._frames else None

    @property
    def is_held(self) -> bool:
        """Whether what is shown stays."""
        return self._held is not None

    @property
    def age_s(self) -> float:
        """How much older the shown frame is than the newest."""
        return self._frames[-1].at_s - self.shown.at_s if self._held and self.shown else 0.0

    def hold(self) -> None:
        """Hold what is shown, or go on where it is held."""
        self._held = None if self._held else self.shown

    def step(self, by: int) -> None:
        """Hold the frame so many intervals later, or earlier; the ends are kept to."""
        if self._frames:
            times = [frame.at_s for frame in self._frames]
            at_s = self._held.at_s if self._held else times[-1]
            index = times.index(at_s) if at_s in times else 0
            self._held = self._frames[min(max(index + by, 0), len(times) - 1)]

    def go_to(self, at_s: float) -> None:
        """Hold the frame whose interval has the Unix time *at_s*; the ends are kept to."""
        if self._frames:
            index = bisect_left(self._frames, at_s, key=lambda frame: frame.at_s)
            self._held = self._frames[min(index, len(self._frames) - 1)]

    def watts(
        self, view: str, wanted: Hashable, zone: str, *, with_below: bool = False
    ) -> list[float]:
        """Return the watts of a row in each frame up to the shown one, 0 where it is not kept."""
        found = []
        for frame in self._frames:
            if self._held and frame.at_s > self._held.at_s:
                break
            rows, watts = frame.views[view], 0.0
            if zone in frame.kinds and (row := _find(rows, wanted)) is not None:
                figures = rows.with_below if with_below and rows.with_below else rows
                uj = figures.uj[row, frame.kinds.index(zone)]
                watts = float(uj) / (1e6 * frame.interval_s)
            found.append(watts)
        return found


def _find(rows: Rows, wanted: Hashable) -> int | None:
    """Return the index of the row with an identity, None where there is none."""
    places: Iterable[int] = range(len(rows.labels))
    if rows.hashes is not None:
        places = np.flatnonzero(rows.hashes == hash(wanted)).tolist()
    return next((at for at in places if identity(rows.labels[at]) == wanted), None)
