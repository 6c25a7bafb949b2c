"""Other ways to attribute what was measured than the live one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kepler_ebpf.attribution import Split, attribute, by_busy_time
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import UJ_PER_J, Zone
from kepler_ebpf.model.usage import Measured


@dataclass(frozen=True, slots=True)
class Model:
    """How a recording is attributed anew; by default as it was live.

    ``split`` is busy, by the busy part of the CPUs' time, or all: whoever ran has the idle energy
    too. ``idle_watts`` by kind of zone is what they draw where nothing runs: only the rest is
    active. ``weight`` shares the CPU time of an interval and socket by another weight first: the
    number of switches, or equal for each that ran.
    """

    split: str = "busy"
    idle_watts: Mapping[str, float] | None = None
    weight: str = "cpu"

    def attribute(self, measured: Measured, zones: tuple[Zone, ...]) -> Attribution:
        """Attribute *measured*, see ``attribution.attribute``."""
        split: Split = _all_active if self.split == "all" else by_busy_time
        if self.idle_watts is not None:
            lengths_s = np.array([interval.length_s for interval in measured.intervals])
            split = partial(_beyond_idle_power, self.idle_watts, lengths_s)
        return attribute(_weighted(measured, self.weight), zones, split)


def _all_active(_: Zone, energy_uj: Floats, __: Floats) -> Floats:
    return energy_uj


def _beyond_idle_power(
    watts: Mapping[str, float], lengths_s: Floats, zone: Zone, energy_uj: Floats, _: Floats
) -> Floats:
    idle_uj = watts.get(zone.kind, 0.0) * lengths_s * UJ_PER_J
    active_uj: Floats = np.maximum(energy_uj - idle_uj, 0.0)
    return active_uj


def _weighted(measured: Measured, weight: str) -> Measured:
    records = measured.records
    if weight == "cpu" or not len(records):
        return measured
    weights = records["switches"].astype(float) if weight == "switches" else np.ones(len(records))
    cell = measured.interval_of * (int(records["socket"].max()) + 1) + records["socket"]
    of_cell, owned_ns = np.bincount(cell, weights), np.bincount(cell, records["cpu_ns"])
    share = weights / np.maximum(of_cell, 1.0)[cell]
    shared_ns = np.where(of_cell[cell] > 0, owned_ns[cell] * share, records["cpu_ns"])
    records = records.copy()
    records["cpu_ns"] = np.rint(shared_ns)
    return replace(measured, records=records)
