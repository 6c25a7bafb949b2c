"""The arithmetic of one hardware energy counter: unwrapping it, and refusing what it cannot mean.

Numbers only. Reading the hardware, and deciding what a fault means for the meter, is elsewhere.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J

STUCK_AFTER_NS: Final = 2 * NS_PER_S
"""A counter that reads the same for this long is counted as stuck."""

SETTLE_NS: Final = 10_000_000
"""Counters are refreshed in steps (RAPL: about 1 ms), so a reading may hold energy this much older
than the clock says."""

WAIT_SHARE: Final = 0.5
"""Part of the time in which a counter can pass its range that it may at most go unread."""


class Fault(StrEnum):
    """What can be wrong with one reading; the values are the reasons that are exported."""

    READ = "read"
    JUMP = "jump"
    STUCK = "stuck"
    GAP = "gap"


class EnergyCounter:
    """Unwraps one rising counter that restarts at zero after ``wraps_at_uj``.

    ``wraps_at_uj`` is the counter's own range, infinite when unknown. ``bound_w`` is what the
    hardware can draw at most: a rise above it is a jump and is never credited. The first reading
    is a baseline. ``total_uj`` is everything credited since then and never falls. ``gaps`` counts
    how often energy was left out of it for good, what came before the first reading included.
    """

    __slots__ = ("_bound_uj_per_ns", "_marks", "_moved_ns", "_wraps_at_uj", "gaps", "total_uj")

    def __init__(self, wraps_at_uj: float = math.inf, *, bound_w: float) -> None:
        """Start with no baseline; nothing is checked, both figures are the caller's."""
        self._wraps_at_uj = wraps_at_uj
        self._bound_uj_per_ns = bound_w * UJ_PER_J / NS_PER_S
        # The readings a new one is measured from: the last good one, then one in doubt if any.
        self._marks: list[tuple[float, int]] = []
        self._moved_ns = 0
        self.total_uj = 0.0
        self.gaps = 0

    @property
    def max_wait_s(self) -> float:
        """How long it may go unread, so that one number of wraps stays possible."""
        return WAIT_SHARE * self._wraps_at_uj / (self._bound_uj_per_ns * NS_PER_S)

    @property
    def at_zero(self) -> bool:
        """True for a counter that was read, reads zero and has never moved: nothing feeds it."""
        return self.total_uj == 0 and bool(self._marks) and self._marks[-1][0] == 0

    def update(self, raw_uj: float, started_ns: int, ended_ns: int) -> Fault | None:
        """Take a reading made between two instants; say what was wrong with it, if anything.

        After a JUMP ``total_uj`` is unchanged and the reading should count as missing: a single
        wild value costs nothing, since the next good one is measured from before it. A GAP means
        that more than one number of wraps is possible: a new baseline, the energy is unknown.
        """
        if not 0 <= raw_uj <= self._wraps_at_uj:
            return Fault.JUMP
        if not self._marks:
            self._accept(raw_uj, started_ns)
            return None
        rise_uj, ambiguous = self._smallest_rise(raw_uj, ended_ns)
        if math.isfinite(rise_uj):
            return self._credit(rise_uj, raw_uj, started_ns, ended_ns)
        if ambiguous:
            self._accept(raw_uj, started_ns)
            return Fault.GAP
        self.gaps += len(self._marks) - 1
        self._marks = [self._marks[-1], (raw_uj, started_ns)]
        return Fault.JUMP

    def forget(self) -> None:
        """Take the next reading as a baseline: the counter has started anew meanwhile."""
        self._marks = []

    def _smallest_rise(self, raw_uj: float, ended_ns: int) -> tuple[float, bool]:
        """Give the least rise that the hardware can have made since a mark; infinite when none.

        The least, because between two explanations only the smaller is sure to be energy. The
        second value tells that some mark is too old: one more wrap would be possible too.
        """
        least_uj, ambiguous = math.inf, False
        for mark_uj, since_ns in self._marks:
            room_uj = self._bound_uj_per_ns * (ended_ns - since_ns + SETTLE_NS)
            rise_uj = self._rise_uj(mark_uj, raw_uj)
            if rise_uj + self._wraps_at_uj <= room_uj:
                ambiguous = True
            elif rise_uj <= room_uj:
                least_uj = min(least_uj, rise_uj)
        return least_uj, ambiguous

    def _rise_uj(self, mark_uj: float, raw_uj: float) -> float:
        rise_uj = raw_uj - mark_uj
        return rise_uj if rise_uj >= 0 else rise_uj + self._wraps_at_uj

    def _accept(self, raw_uj: float, started_ns: int) -> None:
        self.gaps += 1
        self._marks = [(raw_uj, started_ns)]
        self._moved_ns = started_ns

    def _credit(
        self, rise_uj: float, raw_uj: float, started_ns: int, ended_ns: int
    ) -> Fault | None:
        # Measured from the reading in doubt: what was drawn before that one is left out.
        self.gaps += rise_uj != self._rise_uj(self._marks[0][0], raw_uj)
        self._marks = [(raw_uj, started_ns)]
        if rise_uj > 0:
            self.total_uj += rise_uj
            self._moved_ns = started_ns
        elif ended_ns - self._moved_ns >= STUCK_AFTER_NS:
            self._moved_ns = started_ns
            return Fault.STUCK
        return None
