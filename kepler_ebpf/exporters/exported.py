"""The part of a snapshot that is exported."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from kepler_ebpf.model.snapshot import NodeView, Snapshot


def exported(snapshot: Snapshot, levels: frozenset[str]) -> Snapshot:
    """Return *snapshot* with the tables of *levels*, and with the kinds that have moved.

    A kind has moved when any of its zones has counted energy since start. A counter that a
    machine has and does not drive stays at 0, which is not a figure of anything.
    """
    tables = {name: view for name, view in snapshot.workloads.items() if name in levels}
    node = snapshot.node
    moved = {zone.kind for zone, uj in zip(node.zones, node.energy_uj, strict=True) if uj > 0}
    if moved.issuperset(snapshot.kinds):
        return replace(snapshot, workloads=tables)
    columns = [index for index, kind in enumerate(snapshot.kinds) if kind in moved]
    own = snapshot.stats.own
    return replace(
        snapshot,
        kinds=tuple(kind for kind in snapshot.kinds if kind in moved),
        node=_limited_node(node, moved),
        workloads={
            name: replace(
                view,
                energy_uj=view.energy_uj[:, columns],
                ran_uj=view.ran_uj[:, columns],
                retired_uj=view.retired_uj[columns],
            )
            for name, view in tables.items()
        },
        stats=replace(snapshot.stats, own=replace(own, energy_uj=own.energy_uj[columns])),
    )


def _limited_node(node: NodeView, kinds: set[str]) -> NodeView:
    rows = [index for index, zone in enumerate(node.zones) if zone.kind in kinds]
    limited: dict[str, Any] = {
        field.name: getattr(node, field.name)[rows]
        for field in fields(node)
        if field.name.endswith("_uj")
    }
    return replace(node, zones=tuple(node.zones[row] for row in rows), **limited)
