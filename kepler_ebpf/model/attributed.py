"""What becomes of the energy of some intervals."""

from __future__ import annotations

from dataclasses import dataclass

from kepler_ebpf.model.arrays import Floats


@dataclass(frozen=True, slots=True)
class Attribution:
    """The energy of several intervals, each microjoule in exactly one place.

    Shapes: ``shares_uj`` (records, kinds); the others (intervals, zones). For each interval and
    zone ``energy = active + idle`` and ``active = the shares of its records + unattributed``.
    ``shares_uj`` sums the sockets of a kind, ``kinds`` being its column order.
    """

    kinds: tuple[str, ...]
    shares_uj: Floats
    active_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
