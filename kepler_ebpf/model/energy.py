"""Energy: zones, readings of a meter, and the split of an interval's energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

PRIMARY_ORDER = ("psys", "package", "core", "dram", "uncore")
"""Preference for the one zone that speaks for all: zones overlap, so there is no sum of them."""


def primary_kind(kinds: Sequence[str]) -> str:
    """Return the kind of zone that is preferred of *kinds*, at least one."""
    return next((kind for kind in PRIMARY_ORDER if kind in kinds), kinds[0])


NS_PER_S = 1_000_000_000


UJ_PER_J = 1_000_000


@dataclass(frozen=True, slots=True)
class Zone:
    """One energy counter: its kind, the socket it measures (None: the node), its source."""

    kind: str
    socket: int | None
    path: str


@dataclass(frozen=True, slots=True)
class MeterReading:
    """The totals of a meter's zones since the meter was opened; each tuple has one item per zone.

    ``energy_uj`` is cumulative, unwrapped, and never falls. Where ``valid`` is False the zone could
    not be read: its total is the last known one, and the next valid reading includes what it
    consumed meanwhile. ``gaps`` counts how often energy of the zone became unknown for good.
    """

    energy_uj: tuple[float, ...]
    valid: tuple[bool, ...]
    gaps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MeterStats:
    """A meter: its name, whether it models, and faults so far by (zone path, reason).

    The reasons are read, jump, stuck and gap. A counter moves every ``update_s`` seconds at the
    latest, by whole ``unit_uj``; both are 0 where readings are of the moment.
    """

    name: str
    is_estimate: bool
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    update_s: float = 0.0
    unit_uj: float = 0.0


class Meter(Protocol):
    """A source of energy readings. ``read`` never raises for one zone; see ``MeterReading``."""

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of every reading; a zone that draws nothing stays at 0."""

    @property
    def stats(self) -> MeterStats:
        """The meter's name and kind, and its faults so far."""

    @property
    def max_wait_s(self) -> float:
        """Longest time between two readings that cannot lose energy, at any power."""

    def read(self) -> MeterReading:
        """Read every zone once."""

    def close(self) -> None:
        """Release what the meter holds open."""
