"""The part of a snapshot that is exported."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from kepler_ebpf.model.snapshot import NodeView, Snapshot
from kepler_ebpf.model.stats import OwnUsage
from kepler_ebpf.model.workloads import WorkloadView

T = TypeVar("T", NodeView, OwnUsage, WorkloadView)


def exported(snapshot: Snapshot, levels: frozenset[str]) -> Snapshot:
    """Return *snapshot* with the tables of *levels*, and with the kinds that have moved.

    A kind has moved when any of its zones has counted energy since start. Some machines have
    counters that stay at 0: they measure nothing.
    """
    tables = {name: view for name, view in snapshot.workloads.items() if name in levels}
    node, stats = snapshot.node, snapshot.stats
    moved = {zone.kind for zone, uj in zip(node.zones, node.energy_uj, strict=True) if uj > 0}
    if moved.issuperset(snapshot.kinds):
        return replace(snapshot, workloads=tables)
    zones = [index for index, zone in enumerate(node.zones) if zone.kind in moved]
    kinds = [index for index, kind in enumerate(snapshot.kinds) if kind in moved]
    return replace(
        snapshot,
        kinds=tuple(snapshot.kinds[index] for index in kinds),
        node=replace(_limited(node, zones), zones=tuple(node.zones[index] for index in zones)),
        workloads={name: _limited(view, kinds) for name, view in tables.items()},
        stats=replace(stats, own=_limited(stats.own, kinds)),
    )


def _limited(table: T, columns: list[int]) -> T:
    """Return *table* with these columns of each energy, whose last axis is zones or kinds."""
    names = [field.name for field in fields(table) if field.name.endswith("_uj")]
    return replace(table, **{name: getattr(table, name)[..., columns] for name in names})
