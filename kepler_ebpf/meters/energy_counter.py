"""The arithmetic of one hardware energy counter: it unwraps, and refuses impossible readings.

Numbers only. Reading the hardware, and what follows from a fault, is in ``counter_meter``.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J

SETTLE_NS: Final = 10_000_000
"""Hardware refreshes counters in steps (RAPL: about 1 ms), so a reading may hold energy this much
older than the reading."""

WAIT_SHARE: Final = 0.5
"""Longest time between two readings, as a share of the time in which the counter can wrap."""


class Fault(StrEnum):
    """What can be wrong with one reading; the values are the reasons that are exported."""

    READ = "read"
    JUMP = "jump"
    STUCK = "stuck"
    GAP = "gap"


class EnergyCounter:
    """Unwraps one rising counter that restarts at zero after ``wraps_at_uj``.

    ``wraps_at_uj`` is the counter's own range, infinite when unknown. ``bound_w`` is the highest
    power of the hardware: a larger rise is a jump and is never credited. The first reading is a
    baseline. ``total_uj`` is the energy credited since then and never falls. ``gaps`` counts how
    often energy was left out of it for good, the energy before the first reading included.
    """

    __slots__ = ("_bound_uj_per_ns", "_marks", "_wraps_at_uj", "gaps", "total_uj")

    def __init__(self, wraps_at_uj: float = math.inf, *, bound_w: float) -> None:
        """Start with no baseline; both figures must be above 0."""
        self._wraps_at_uj = wraps_at_uj
        self._bound_uj_per_ns = bound_w * UJ_PER_J / NS_PER_S
        # Readings (µJ, ns) to measure the next one from: the last good one, then one in doubt.
        self._marks: list[tuple[float, int]] = []
        self.total_uj = 0.0
        self.gaps = 0

    @property
    def max_wait_s(self) -> float:
        """Longest time between two readings in which the counter wraps once at most."""
        return WAIT_SHARE * self._wraps_at_uj / (self._bound_uj_per_ns * NS_PER_S)

    @property
    def at_zero(self) -> bool:
        """Whether the counter reads zero and has never moved."""
        return self.total_uj == 0 and bool(self._marks) and self._marks[-1][0] == 0

    def update(self, raw_uj: float, started_ns: int, ended_ns: int) -> Fault | None:
        """Credit a reading made between two instants; return its fault, if any.

        After a JUMP ``total_uj`` is unchanged and the reading counts as missing: the next good
        reading is measured from the last good one, so a single wild value costs no energy. A GAP
        means that the number of wraps is unknown: the reading is a new baseline.
        """
        if not 0 <= raw_uj <= self._wraps_at_uj:
            return Fault.JUMP
        if not self._marks:
            self._start_at(raw_uj, started_ns)
            return None
        rise_uj, is_ambiguous = self._smallest_rise(raw_uj, ended_ns)
        if rise_uj < math.inf:
            # A rise measured from the reading in doubt leaves out the energy before that one.
            if len(self._marks) > 1:
                self.gaps += rise_uj != self._rise_uj(self._marks[0][0], raw_uj)
            self.total_uj += rise_uj
            self._marks = [(raw_uj, started_ns)]
            return None
        if is_ambiguous:
            self._start_at(raw_uj, started_ns)
            return Fault.GAP
        self.gaps += len(self._marks) - 1
        self._marks = [self._marks[-1], (raw_uj, started_ns)]
        return Fault.JUMP

    def forget(self) -> None:
        """Take the next reading as a baseline: the counter has restarted."""
        self._marks = []

    def _smallest_rise(self, raw_uj: float, ended_ns: int) -> tuple[float, bool]:
        """Return the smallest possible rise since a mark, infinite when none is possible.

        Of two possible rises only the smaller is sure to be energy. The second value is True where
        one wrap more would be possible too.
        """
        smallest_uj, is_ambiguous = math.inf, False
        for since_uj, since_ns in self._marks:
            room_uj = self._bound_uj_per_ns * (ended_ns - since_ns + SETTLE_NS)
            rise_uj = self._rise_uj(since_uj, raw_uj)
            if rise_uj + self._wraps_at_uj <= room_uj:
                is_ambiguous = True
            elif rise_uj <= room_uj and rise_uj < smallest_uj:
                smallest_uj = rise_uj
        return smallest_uj, is_ambiguous

    def _rise_uj(self, since_uj: float, raw_uj: float) -> float:
        rise_uj = raw_uj - since_uj
        return rise_uj if rise_uj >= 0 else rise_uj + self._wraps_at_uj

    def _start_at(self, raw_uj: float, started_ns: int) -> None:
        self.gaps += 1
        self._marks = [(raw_uj, started_ns)]
