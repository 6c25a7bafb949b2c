"""The node's energy by zone."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.ledger.records import Batch
from kepler_ebpf.ledger.table import frozen
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import Zone, primary_kind
from kepler_ebpf.model.snapshot import NodeView


class NodeTotals:
    """Energy, active, idle and unattributed µJ of every zone: arrays of shape (4, zones)."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self._zones = zones
        self._total_uj: Floats = frozen(np.zeros((4, len(zones))))
        self._recent_uj: dict[int, Floats] = {}
        self._shown = 0

    def credit(self, batch: Batch) -> None:
        """Add the energy of the intervals of *batch*."""
        energy, self._shown = batch.attribution, batch.shown
        active_uj, idle_uj = energy.active_uj, energy.idle_uj
        given_uj = np.array((active_uj + idle_uj, active_uj, idle_uj, energy.unattributed_uj))
        self._total_uj = frozen(self._total_uj + given_uj.sum(axis=1))
        recent_uj = [
            *self._recent_uj.items(),
            *zip(batch.interval_grid.tolist(), given_uj.swapaxes(0, 1), strict=True),
        ]
        self._recent_uj = {}
        for number, uj in recent_uj:
            if number >= batch.shown:
                self._recent_uj[number] = self._recent_uj.get(number, 0.0) + uj

    def primary_kind(self) -> str:
        """Return the kind that ranks ended workloads: the first in order that has ever moved."""
        energy_uj = self._total_uj[0].tolist()
        moved = {zone.kind for zone, uj in zip(self._zones, energy_uj, strict=True) if uj > 0}
        kinds = zone_kinds(self._zones)
        return primary_kind([kind for kind in kinds if kind in moved] or kinds)

    def view(self, usage_ratio: float) -> NodeView:
        """Return the totals and the last closed interval, with the node's busy share 0..1."""
        interval_uj = self._recent_uj.get(self._shown, np.zeros_like(self._total_uj))
        energy_uj, active_uj, idle_uj, unattributed_uj = self._total_uj
        interval_energy_uj, interval_active_uj, interval_idle_uj, no_owner_uj = frozen(interval_uj)
        return NodeView(
            zones=self._zones,
            energy_uj=energy_uj,
            active_uj=active_uj,
            idle_uj=idle_uj,
            unattributed_uj=unattributed_uj,
            interval_energy_uj=interval_energy_uj,
            interval_active_uj=interval_active_uj,
            interval_idle_uj=interval_idle_uj,
            interval_unattributed_uj=no_owner_uj,
            usage_ratio=usage_ratio,
        )
