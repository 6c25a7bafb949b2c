"""CPU time and energy of measured intervals, before they are attributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.model.energy import NS_PER_S

OVERFLOW_COMM = "[overflow]"
"""The comm of the record that holds the time of tasks the kernel map had no room for."""


class SocketTime(NamedTuple):
    """CPU time of one interval by socket, in ns; every tuple has shape (sockets,).

    The CPU time that existed is busy + idle, exactly. ``busy_ns`` includes ``lost_ns``, the time
    that has no owner.
    """

    busy_ns: tuple[int, ...]
    idle_ns: tuple[int, ...]
    lost_ns: tuple[int, ...]


class Usage(NamedTuple):
    """The CPU time of one closed interval, as the kernel side has counted it.

    ``start_ns`` and ``end_ns`` are on the monotonic clock. ``wall_ns`` is the CPU time that passed
    by the clock alone, to hold the other figures against. ``record_count`` records of the tracker
    belong to it.
    """

    start_ns: int
    end_ns: int
    wall_ns: int
    sockets: SocketTime
    record_count: int


class Interval(NamedTuple):
    """One measured interval: CPU time, energy, and when.

    ``number`` is that of the configured interval it belongs to, which may be measured in parts.
    Of shape (zones,): ``energy_uj`` is what each zone drew; where ``unread``, that is not known
    or not of this interval alone; where ``unowned``, it was drawn too long ago for an owner.
    """

    number: int
    usage: Usage
    energy_uj: tuple[float, ...]
    unread: tuple[bool, ...]
    unowned: tuple[bool, ...]

    @property
    def length_s(self) -> float:
        """Length by the clock, in seconds."""
        return (self.usage.end_ns - self.usage.start_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Measured:
    """Consecutive intervals with their records.

    ``records`` (N,) are of dtype ``kernel.layout.TASK``: one for each task, cgroup and socket that
    used CPU time in an interval. Tasks that found no room in the task map are summed in one record
    for each cgroup and socket, with pid and tgid 0. ``interval_of`` (N,) indexes ``intervals``.
    """

    records: Records
    interval_of: Ints
    intervals: tuple[Interval, ...]

    @property
    def lost_ns(self) -> int:
        """CPU time without any owner."""
        return sum(sum(each.usage.sockets.lost_ns) for each in self.intervals)

    @property
    def overflow_ns(self) -> int:
        """CPU time whose cgroup is known, but not its task."""
        return int(self.records["cpu_ns"][self.records["tgid"] == 0].sum())
