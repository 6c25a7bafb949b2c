"""Finds counters that have several names, as the dies of a first-generation EPYC do.

Two zones of one kind and package are one counter if their values are equal again and again while
both move. One difference proves nothing, since two values are not read at the same instant. Equal
values of two counters are an accident that does not repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from kepler_ebpf.meters.counter_zone import CounterZone

MIN_EVIDENCE: Final = 12
"""Evidence that two zones are one counter."""

EQUAL_VALUES: Final = 3
"""Evidence of one reading of two files that are equal to the microjoule."""

EQUAL_RISES: Final = 1
"""Evidence of one equal rise of two events. It is weaker than equal values, which events lack: a
refresh between their openings leaves a constant difference."""


@dataclass(slots=True)
class Pair:
    """Two zones that may be one counter, and the evidence of the last readings."""

    first: CounterZone
    other: CounterZone
    evidence: int = field(default=0, init=False)
    _last_uj: tuple[float, float] | None = field(default=None, init=False)

    @property
    def is_suspect(self) -> bool:
        """Whether to credit no energy of the other zone until more readings have decided."""
        return self.evidence >= EQUAL_VALUES

    @property
    def is_mirror(self) -> bool:
        """Whether the two are one counter."""
        return self.evidence >= MIN_EVIDENCE

    def compare(self) -> None:
        """Weigh the last values; a zone that failed or stands still adds no evidence."""
        first_uj, other_uj = self.first.raw_uj, self.other.raw_uj
        if first_uj is None or other_uj is None:
            return
        last_uj, self._last_uj = self._last_uj, (first_uj, other_uj)
        if last_uj is None:
            return
        is_event = self.first.source.counts_from_opening
        expected_uj = last_uj[0] - last_uj[1] if is_event else 0.0
        # Rounded, as the count of an event is scaled to a fraction of a microjoule.
        if round(first_uj - other_uj) != round(expected_uj):
            # One reading less, no more: values of one counter differ too if it moves in between.
            self.evidence = max(0, self.evidence - EQUAL_VALUES)
        elif first_uj != last_uj[0] and other_uj != last_uj[1]:
            self.evidence += EQUAL_RISES if is_event else EQUAL_VALUES


def find_pairs(zones: Sequence[CounterZone]) -> list[Pair]:
    """Pair the zones that could be one counter: those of one kind and package."""
    return [
        Pair(first, other)
        for first, other in combinations(zones, 2)
        if (first.zone.kind, first.package) == (other.zone.kind, other.package)
    ]
