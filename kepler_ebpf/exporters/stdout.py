"""The figures of each interval as a table for people or as JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.records import labels_record, mean_watts, zone_records
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, primary_kind
from kepler_ebpf.model.levels import LEVELS, NODE, WORKLOAD_LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State, WorkloadView

TOP = 10
"""Rows of each workload table for people."""

NAME_WIDTH = 40


def table(snapshot: Snapshot, levels: frozenset[str] = frozenset(LEVELS), top: int = TOP) -> str:
    """Return the node's zones and the *top* consumers of each level, by watts, as lines of text."""
    snapshot, meter = exported(snapshot, levels), snapshot.stats.meter
    kind = "estimate" if meter.is_estimate else "measured"
    busy = f"CPU busy {100 * snapshot.node.usage_ratio:.1f} %"
    lines = [f"interval {snapshot.interval_s:.3f} s, meter {meter.name} ({kind}), {busy}"]
    if NODE in levels:
        lines += _node_lines(snapshot)
    for level, view in snapshot.workloads.items():
        lines += _top_lines(level, view, snapshot, top)
    return "\n".join(lines) + "\n"


def json_line(snapshot: Snapshot, levels: frozenset[str] = frozenset(LEVELS)) -> str:
    """Return the snapshot as one JSON object: the node, and every workload that ran.

    Watts are the interval's mean, null where their zone could not be read; joules and seconds are
    totals since start. ASCII only.
    """
    snapshot, stats = exported(snapshot, levels), snapshot.stats
    record: dict[str, Any] = {
        "at_s": snapshot.at_s,
        "interval_s": snapshot.interval_s,
        "meter": stats.meter.name,
        "estimate": stats.meter.is_estimate,
        "residual_ratio": stats.loop.residual_ratio,
    }
    if NODE in levels:
        record["usage_ratio"] = snapshot.node.usage_ratio
        record["zones"] = list(zone_records(snapshot))
    for level, view in snapshot.workloads.items():
        record[WORKLOAD_LEVELS[level].plural] = list(_ran_records(view, snapshot))
    return json.dumps(record, separators=(",", ":"))


def _ran_records(view: WorkloadView, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    for index in _order(view, snapshot):
        row = int(view.ran_rows[index])
        watts = mean_watts(snapshot, snapshot.kinds, view.ran_uj[index])
        joules = (view.energy_uj[row] / UJ_PER_J).tolist()
        yield {
            **labels_record(view.labels[row]),
            "state": State(int(view.state[row])).name.lower(),
            "watts": dict(zip(snapshot.kinds, watts, strict=True)),
            "joules": dict(zip(snapshot.kinds, joules, strict=True)),
            "cpu_seconds": float(view.cpu_ns[row]) / NS_PER_S,
        }


def _order(view: WorkloadView, snapshot: Snapshot) -> list[int]:
    """Return indexes of ``ran_rows`` by falling watts of the primary zone, else by CPU time."""
    kinds = snapshot.kinds
    known = [kind for kind in kinds if kind not in snapshot.unread_kinds]
    primary = primary_kind(known) if known else None
    weight = view.cpu_ns[view.ran_rows] if primary is None else view.ran_uj[:, kinds.index(primary)]
    order: list[int] = np.argsort(-weight, kind="stable").tolist()
    return order


def _node_lines(snapshot: Snapshot) -> Iterable[str]:
    yield ""
    yield f"{'ZONE':<10}{'SOCKET':<8}{'W':>10}{'ACTIVE W':>10}{'IDLE W':>10}{'J TOTAL':>14}"
    for record in zone_records(snapshot):
        socket = "-" if record["socket"] is None else record["socket"]
        powers = (_cell(record[name], 10) for name in ("watts", "active_watts", "idle_watts"))
        joules = _cell(record["joules"], 14)
        yield f"{record['zone']:<10}{socket:<8}{''.join(powers)}{joules}"


def _cell(figure: float | None, width: int) -> str:
    return f"{'-':>{width}}" if figure is None else f"{figure:>{width}.3f}"


def _top_lines(level: str, view: WorkloadView, snapshot: Snapshot, top: int) -> Iterator[str]:
    present = view.state == State.RUNNING
    present[view.ran_rows] = True  # also those that have ended meanwhile
    title = f"{level.upper()} ({len(view.ran_rows)} of {present.sum()} ran)"
    kinds = "".join(f"{f'{kind} W':>12}" for kind in snapshot.kinds)
    yield ""
    yield f"{title:<{NAME_WIDTH}}{kinds}"
    for index in _order(view, snapshot)[:top]:
        title = view.labels[int(view.ran_rows[index])].title
        watts = mean_watts(snapshot, snapshot.kinds, view.ran_uj[index])
        # A terminal obeys control characters, and a process chooses its own name.
        name = harmless(title)[: NAME_WIDTH - 1]
        yield f"{name:<{NAME_WIDTH}}{''.join(_cell(power, 12) for power in watts)}"
