"""The figures of each interval as a table for people or as JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kepler_ebpf.exporters.catalog import LEVELS
from kepler_ebpf.exporters.values import workloads
from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, PRIMARY_ORDER, UJ_PER_J
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State, WorkloadView

TOP = 10
"""Rows of each workload table that people are shown."""

NAME_WIDTH = 40

_PLURALS = {
    "process": "processes",
    "container": "containers",
    "vm": "vms",
    "pod": "pods",
    "unit": "units",
}


def table(snapshot: Snapshot, levels: frozenset[str] = frozenset(LEVELS), top: int = TOP) -> str:
    """Return the node's zones and the *top* consumers of each level, by watts, as lines of text."""
    health = snapshot.health
    kind = "estimate" if health.meter_is_estimate else "measured"
    busy = f"CPU busy {100 * snapshot.node.usage_ratio:.1f} %"
    lines = [f"interval {snapshot.interval_s:.3f} s, meter {health.meter_name} ({kind}), {busy}"]
    if "node" in levels:
        lines += _node_lines(snapshot)
    for level, view in workloads(snapshot):
        if level in levels:
            lines += _top_lines(level, view, snapshot, top)
    return "\n".join(lines) + "\n"


def json_line(snapshot: Snapshot, levels: frozenset[str] = frozenset(LEVELS)) -> str:
    """Return the snapshot as one JSON object: the node, and every workload that ran.

    Watts are the interval's mean, null where their zone could not be read; joules and seconds are
    totals since start. ASCII only.
    """
    record: dict[str, Any] = {
        "at_s": snapshot.at_s,
        "interval_s": snapshot.interval_s,
        "meter": snapshot.health.meter_name,
        "estimate": snapshot.health.meter_is_estimate,
        "residual_ratio": snapshot.health.residual_ratio,
    }
    if "node" in levels:
        record["usage_ratio"] = snapshot.node.usage_ratio
        record["zones"] = list(_zone_records(snapshot))
    for level, view in workloads(snapshot):
        if level in levels:
            record[_PLURALS[level]] = list(_ran_records(view, snapshot))
    return json.dumps(record, separators=(",", ":"))


def _zone_records(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    node, zones = snapshot.node, snapshot.node.zones
    kinds = tuple(zone.kind for zone in zones)
    columns = zip(
        zones,
        _watts(snapshot, kinds, node.interval_energy_uj),
        _watts(snapshot, kinds, node.interval_active_uj),
        _watts(snapshot, kinds, node.interval_idle_uj),
        node.energy_uj.tolist(),
        strict=True,
    )
    for zone, watts, active_watts, idle_watts, uj in columns:
        yield {
            "zone": zone.kind,
            "socket": zone.socket,
            "path": zone.path,
            "watts": watts,
            "active_watts": active_watts,
            "idle_watts": idle_watts,
            "joules": uj / UJ_PER_J,
        }


def _ran_records(view: WorkloadView, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    for place in _order(view, snapshot):
        row = int(view.ran_rows[place])
        labels = view.labels[row]
        yield {
            **{name: _json_value(getattr(labels, name)) for name in labels.__slots__},
            "state": State(int(view.state[row])).name.lower(),
            "watts": dict(zip(snapshot.kinds, _ran_watts(view, snapshot, place), strict=True)),
            "joules": dict(
                zip(snapshot.kinds, (view.energy_uj[row] / UJ_PER_J).tolist(), strict=True)
            ),
            "cpu_seconds": int(view.cpu_ns[row]) / NS_PER_S,
        }


def _json_value(value: str | int) -> str | int:
    return clean(value) if isinstance(value, str) else value


def _ran_watts(view: WorkloadView, snapshot: Snapshot, place: int) -> list[float | None]:
    return _watts(snapshot, snapshot.kinds, view.ran_uj[place])


def _watts(snapshot: Snapshot, kinds: tuple[str, ...], uj: Floats) -> list[float | None]:
    """Return the interval's mean power for energies of these *kinds*; None where not known yet."""
    watts = (uj / (UJ_PER_J * snapshot.interval_s)).tolist()
    pairs = zip(kinds, watts, strict=True)
    return [None if kind in snapshot.unread_kinds else power for kind, power in pairs]


def _order(view: WorkloadView, snapshot: Snapshot) -> list[int]:
    """Return places in ``ran_rows``, most watts of the first known zone first; else by CPU time."""
    kinds = snapshot.kinds
    known = frozenset(kinds) - snapshot.unread_kinds
    primary = next((kind for kind in PRIMARY_ORDER if kind in known), None)
    weight = view.cpu_ns[view.ran_rows] if primary is None else view.ran_uj[:, kinds.index(primary)]
    order: list[int] = np.argsort(-weight, kind="stable").tolist()
    return order


def _node_lines(snapshot: Snapshot) -> Iterable[str]:
    yield ""
    yield f"{'ZONE':<10}{'SOCKET':<8}{'W':>10}{'ACTIVE W':>10}{'IDLE W':>10}{'J TOTAL':>14}"
    for record in _zone_records(snapshot):
        socket = "-" if record["socket"] is None else record["socket"]
        yield (
            f"{record['zone']:<10}{socket:<8}{_cell(record['watts'], 10)}"
            f"{_cell(record['active_watts'], 10)}{_cell(record['idle_watts'], 10)}"
            f"{_cell(record['joules'], 14)}"
        )


def _cell(figure: float | None, width: int) -> str:
    return f"{'-':>{width}}" if figure is None else f"{figure:>{width}.3f}"


def _top_lines(level: str, view: WorkloadView, snapshot: Snapshot, top: int) -> Iterator[str]:
    was_there = view.state == State.RUNNING
    was_there[view.ran_rows] = True  # also where it has ended meanwhile
    title = f"{level.upper()} ({len(view.ran_rows)} of {was_there.sum()} ran)"
    kinds = "".join(f"{f'{kind} W':>12}" for kind in snapshot.kinds)
    yield ""
    yield f"{title:<{NAME_WIDTH}}{kinds}"
    for place in _order(view, snapshot)[:top]:
        labels = view.labels[int(view.ran_rows[place])]
        watts = "".join(_cell(power, 12) for power in _ran_watts(view, snapshot, place))
        yield f"{_name(level, labels):<{NAME_WIDTH}}{watts}"


def _name(level: str, labels: Any) -> str:
    shown = {
        "process": lambda: f"{labels.pid:>7} {labels.comm}",
        "container": lambda: f"{labels.container_id[:12]} {labels.container_name}",
        "vm": lambda: f"{labels.vm_id[:12]} {labels.vm_name}",
        "pod": lambda: f"{labels.pod_namespace}/{labels.pod_name or labels.pod_id}",
        "unit": lambda: f"{labels.unit}",
    }[level]()
    # A terminal obeys control characters, and a process chooses its own name.
    printable = "".join(char if char.isprintable() else "?" for char in shown)
    return printable[: NAME_WIDTH - 1]
