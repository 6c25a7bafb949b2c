"""The node's energy by zone."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.ledger.arrays import frozen
from kepler_ebpf.ledger.records import Batch
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import PRIMARY_ORDER, Zone
from kepler_ebpf.model.snapshot import NodeView


class NodeTotals:
    """Energy, active, idle and unattributed µJ of every zone: arrays of shape (4, zones)."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self._zones = zones
        self._total_uj: Floats = frozen(np.zeros((4, len(zones))))
        self._recent_uj: dict[int, Floats] = {}
        self._last_closed: int | None = None

    def credit(self, batch: Batch) -> None:
        """Add the energy of the intervals of *batch*."""
        energy, closed = batch.attribution, batch.last_closed
        given_uj = np.array(
            (
                energy.active_uj + energy.idle_uj,
                energy.active_uj,
                energy.idle_uj,
                energy.unattributed_uj,
            )
        )
        self._total_uj = frozen(self._total_uj + given_uj.sum(axis=1))
        self._last_closed = closed
        recent = {
            grid: uj for grid, uj in self._recent_uj.items() if closed is None or grid >= closed
        }
        first = 0 if closed is None else int(batch.interval_grid.searchsorted(closed))
        for index, grid in enumerate(batch.interval_grid[first:].tolist(), first):
            recent[grid] = recent.get(grid, 0.0) + given_uj[:, index]
        self._recent_uj = recent

    def primary_kind(self) -> str:
        """Return the kind that ranks ended workloads: the first in order that has ever moved."""
        energy_uj = self._total_uj[0].tolist()
        moved = {zone.kind for zone, uj in zip(self._zones, energy_uj, strict=True) if uj > 0}
        kinds = zone_kinds(self._zones)
        return next((kind for kind in PRIMARY_ORDER if kind in (moved or kinds)), kinds[0])

    def view(self, usage_ratio: float) -> NodeView:
        """Return the totals and the last closed interval, with the node's busy share 0..1."""
        closed, zones = self._last_closed, self._zones
        shown = [uj for grid, uj in self._recent_uj.items() if closed is None or grid == closed]
        interval_uj = frozen(np.sum(shown, axis=0) if shown else np.zeros((4, len(zones))))
        energy_uj, active_uj, idle_uj, unattributed_uj = self._total_uj
        return NodeView(
            zones=zones,
            energy_uj=energy_uj,
            active_uj=active_uj,
            idle_uj=idle_uj,
            unattributed_uj=unattributed_uj,
            interval_energy_uj=interval_uj[0],
            interval_active_uj=interval_uj[1],
            interval_idle_uj=interval_uj[2],
            usage_ratio=usage_ratio,
        )
