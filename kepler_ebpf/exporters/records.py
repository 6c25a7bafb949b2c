"""What is shown in JSON, as values: rows of workloads, zones of the node, and the sum of a view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.query import Picture, Row
from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import UJ_PER_J
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.snapshot import Snapshot

PARTS = ("rows_watts", "other_rows_watts", "outside_watts", "no_owner_watts", "idle_watts")
"""What adds up to the watts of a zone."""


def parts_record(found: Picture) -> dict[str, float | None]:
    """Return the watts of a zone and the parts that add up to them; None where not known."""
    if found.meter_w is None:
        return {"watts": None, **dict.fromkeys(PARTS)}
    parts = (found.shown_w, found.other_w, found.outside_w, found.unattributed_w, found.idle_w)
    return {"watts": found.meter_w, **dict(zip(PARTS, parts, strict=True))}


def row_record(frame: Frame, row: Row) -> dict[str, Any]:
    """Return one row with its labels. Watts of a zone that could not be read are None."""
    watts = dict(zip(frame.kinds, row.watts, strict=True))
    return {
        **labels_record(row.labels),
        "state": row.state,
        "watts": {k: None if k in frame.unread_kinds else w for k, w in watts.items()},
        "joules": dict(zip(frame.kinds, row.joules, strict=True)),
        "cpu_seconds": row.cpu_s,
    }


def labels_record(labels: Any) -> dict[str, Any]:
    """Return the labels of a row by name, as text that is valid UTF-8."""
    names: dict[str, Any]
    if isinstance(labels, CgroupName):
        names = {"path": labels.path, "container_id": labels.container_id, "pod_id": labels.pod_id}
    else:
        names = {field.name: getattr(labels, field.name) for field in fields(labels)}
    return {name: clean(v) if isinstance(v, str) else v for name, v in names.items()}


def zone_records(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """Yield the node's zones that have moved, with the power of the interval."""
    node, zones = snapshot.node, snapshot.node.zones
    kinds = tuple(zone.kind for zone in zones)
    columns = zip(
        zones,
        mean_watts(snapshot, kinds, node.interval_energy_uj),
        mean_watts(snapshot, kinds, node.interval_active_uj),
        mean_watts(snapshot, kinds, node.interval_idle_uj),
        mean_watts(snapshot, kinds, node.interval_unattributed_uj),
        node.energy_uj.tolist(),
        strict=True,
    )
    for zone, watts, active_watts, idle_watts, unattributed_watts, uj in columns:
        if uj > 0:  # else it has never moved
            yield {
                "zone": zone.kind,
                "socket": zone.socket,
                "path": zone.path,
                "watts": watts,
                "active_watts": active_watts,
                "idle_watts": idle_watts,
                "unattributed_watts": unattributed_watts,
                "joules": uj / UJ_PER_J,
            }


def mean_watts(snapshot: Snapshot, kinds: Sequence[str], uj: Floats) -> list[float | None]:
    """Return the interval's mean power for energies of these *kinds*; None where not known."""
    watts = (uj / (UJ_PER_J * snapshot.interval_s)).tolist()
    pairs = zip(kinds, watts, strict=True)
    return [None if kind in snapshot.unread_kinds else power for kind, power in pairs]
