"""Energy and usage brought together, zone by zone, when some zones could not be read in time.

A zone that fails keeps its tasks waiting: once it reads again, what it drew meanwhile is shared
over everything that ran meanwhile. A zone that stays away too long gets its joules back
unattributed, so that the tasks kept for it stay few. What a zone drew and nobody counted is never
paid: its tasks of before the gap get nothing of what comes after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.model.arrays import Bools, Floats, Records
from kepler_ebpf.model.energy import MeterReading
from kepler_ebpf.model.usage import SocketTime, Usage

MAX_INTERVALS = 60
MAX_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Due:
    """Energy to share now: ``energy_uj`` (zones,) over ``tasks``.

    ``late`` where it is for earlier intervals too; ``interval_part`` is then the part of that time
    which the last interval is, so that late energy does not look like a burst of power.
    """

    tasks: Records
    sockets: SocketTime
    energy_uj: Floats
    late: bool = False
    interval_part: float = 1.0


class Backlog:
    """Holds the last reading, and the usage that a failing zone still has to pay for."""

    def __init__(self, first: MeterReading) -> None:
        """Take *first* as the baseline: a first reading is nobody's consumption."""
        self._last_uj = first.energy_uj.copy()
        self._last_gaps = first.gaps.copy()
        self._none = np.zeros(len(first.valid), np.bool_)
        self._unknown = ~first.valid
        self._held: deque[Usage] = deque()
        self._owing = np.zeros(len(first.energy_uj), np.int64)
        self._is_owing = False

    @property
    def may_pay(self) -> bool:
        """Whether energy for usage of earlier intervals may still come."""
        if not self._is_owing:
            return False
        return bool(((self._owing > 0) & (self._owing <= len(self._held))).any())

    @property
    def unknown(self) -> Bools:
        """The zones (zones,) of which it is not known what they drew in the last interval."""
        return self._unknown

    def settle(self, usage: Usage, reading: MeterReading) -> Iterator[Due]:
        """Give what each zone drew, with the usage it is for; the current interval comes first."""
        valid = reading.valid
        if self._is_usual(reading):
            drawn_uj = reading.energy_uj - self._last_uj
            self._last_uj, self._unknown = reading.energy_uj, self._none
            yield Due(usage.tasks, usage.sockets, drawn_uj)
            return
        gap = valid & (reading.gaps != self._last_gaps)
        self._last_gaps = np.where(valid, reading.gaps, self._last_gaps)
        self._unknown = gap | ~valid
        # The tasks that waited would be paid from what was counted after the gap.
        self._owing[gap] = 0
        drawn_uj = np.where(valid, reading.energy_uj - self._last_uj, 0.0)
        self._last_uj = np.where(valid, reading.energy_uj, self._last_uj)
        on_time = valid & (self._owing == 0)
        yield Due(usage.tasks, usage.sockets, np.where(on_time, drawn_uj, 0.0))
        yield from self._settle_late(usage, valid & (self._owing > 0), drawn_uj)
        self._hold(usage, valid)

    def _is_usual(self, reading: MeterReading) -> bool:
        """Whether every zone was read, owes nothing and has no gap since the last reading."""
        # Numbers, not arrays: there are few zones, and this is asked each interval.
        return (
            not self._is_owing
            and all(reading.valid.tolist())
            and reading.gaps.tolist() == self._last_gaps.tolist()
        )

    def _settle_late(self, usage: Usage, back: Bools, drawn_uj: Floats) -> Iterator[Due]:
        held = [*self._held, usage]
        for owed in np.unique(self._owing[back]).tolist():
            zones = back & (self._owing == owed)
            merged = _merged(held[-owed - 1 :]) if owed < len(held) else _nobody(usage)
            yield Due(
                *merged, np.where(zones, drawn_uj, 0.0), late=True, interval_part=1 / (owed + 1)
            )

    def _hold(self, usage: Usage, valid: Bools) -> None:
        self._owing = np.where(valid, 0, self._owing + 1)
        self._is_owing = bool(self._owing.any())
        if not self._is_owing:
            self._held.clear()
            return
        self._held.append(usage)
        while len(self._held) > MAX_INTERVALS or self._records() > MAX_RECORDS:
            self._held.popleft()

    def _records(self) -> int:
        return sum(len(usage.tasks) for usage in self._held)


def _merged(usages: list[Usage]) -> tuple[Records, SocketTime]:
    sockets = [usage.sockets for usage in usages]
    return np.concatenate([usage.tasks for usage in usages]), SocketTime(
        window_ns=np.sum([each.window_ns for each in sockets], axis=0),
        busy_ns=np.sum([each.busy_ns for each in sockets], axis=0),
        idle_ns=np.sum([each.idle_ns for each in sockets], axis=0),
        lost_ns=np.sum([each.lost_ns for each in sockets], axis=0),
    )


def _nobody(usage: Usage) -> tuple[Records, SocketTime]:
    """The tasks of too long ago are forgotten: their energy finds no owner."""
    return usage.tasks[:0], usage.sockets
