"""Energy: zones, readings of a meter, and the split of an interval's energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kepler_ebpf.model.arrays import Bools, Floats, Ints

ZONE_KINDS = ("package", "core", "uncore", "dram", "psys")


PRIMARY_ORDER = ("psys", "package", "core", "dram", "uncore")
"""Preference for the one zone that ranks and filters ended workloads."""


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
    """What a meter's zones have counted since it was opened.

    ``energy_uj`` is cumulative and unwrapped, one float64 per zone, never falling. Where ``valid``
    is False the zone could not be read now and its figure is the last known one; what it consumed
    meanwhile is in the figure of its next valid reading. ``gaps`` counts for each zone how often
    something it consumed became unknown for good: no figure will ever have it.
    """

    at_ns: int
    energy_uj: Floats
    valid: Bools
    gaps: Ints


class Meter(Protocol):
    """A source of energy readings. ``read`` never raises for one zone; see ``MeterReading``."""

    @property
    def name(self) -> str:
        """One of rapl, perf, estimate, fake."""

    @property
    def is_estimate(self) -> bool:
        """True where the figures are modelled, not measured."""

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of every reading."""

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Counted faults so far by (zone path, reason); reasons: read, jump, stuck, gap."""

    @property
    def max_wait_s(self) -> float:
        """How long it may go unread without a gap, whatever is drawn meanwhile."""

    def read(self) -> MeterReading:
        """Read every zone once."""

    def close(self) -> None:
        """Release what the meter holds open."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The energy of one interval, each microjoule in exactly one place.

    Shapes: ``shares_uj`` (tasks, kinds); the others (zones,). For each zone
    ``energy = active + idle`` and ``active = its tasks' shares + unattributed``.
    ``shares_uj`` sums the sockets of a kind, ``kinds`` being its column order.
    """

    kinds: tuple[str, ...]
    shares_uj: Floats
    active_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
