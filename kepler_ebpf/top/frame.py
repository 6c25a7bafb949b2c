"""One interval, reduced to what ran in it: small enough to be kept for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.energy import PRIMARY_ORDER, Zone
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import WorkloadView

CGROUP = "cgroup"
VIEWS = (*WORKLOAD_LEVELS, CGROUP)
"""Every view by its name: the kinds of workloads, and cgroups."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What ran in one interval, of one kind of workload.

    Shapes: ``labels``, ``cpu_ns`` and ``state`` (rows,), ``uj`` of the interval and ``total_uj``
    since start (rows, kinds). ``cgroups`` are those of processes, else empty. ``left_out_uj``
    (kinds,) belongs to ``left_out`` rows that were dropped.
    """

    labels: tuple[Any, ...]
    uj: Floats
    total_uj: Floats
    cpu_ns: Floats
    state: Ints
    cgroups: tuple[CgroupName | None, ...]
    left_out: int
    left_out_uj: Floats

    def trimmed(self, most: int) -> Rows:
        """Return the *most* rows with the highest energy of any kind, with the others left out."""
        if len(self.labels) <= most:
            return self
        order = np.argpartition(-self.uj.max(axis=1), most)
        kept = np.sort(order[:most])
        return Rows(
            labels=tuple(self.labels[row] for row in kept.tolist()),
            uj=self.uj[kept],
            total_uj=self.total_uj[kept],
            cpu_ns=self.cpu_ns[kept],
            state=self.state[kept],
            cgroups=tuple(self.cgroups[row] for row in kept.tolist()) if self.cgroups else (),
            left_out=self.left_out + len(self.labels) - most,
            left_out_uj=self.left_out_uj + self.uj[order[most:]].sum(axis=0),
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One interval: the node's energy by kind of zone, each (kinds,), and the rows of each view.

    ``process_uj`` is the sum over all processes: what has an owner.
    """

    at_s: float
    interval_s: float
    kinds: tuple[str, ...]
    unread_kinds: frozenset[str]
    meter: str
    is_estimate: bool
    usage_ratio: float
    energy_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
    process_uj: Floats
    views: Mapping[str, Rows]

    def primary(self) -> str:
        """Return the kind of zone that is shown where none is chosen."""
        return next((kind for kind in PRIMARY_ORDER if kind in self.kinds), self.kinds[0])

    def trimmed(self, most: int) -> Frame:
        """Return the frame with no more than *most* rows of each view."""
        views = {name: rows.trimmed(most) for name, rows in self.views.items()}
        return replace(self, views=views)


def frame_of(whole: Snapshot) -> Frame:
    """Return what ran in the interval that *whole* shows."""
    snapshot = exported(whole, frozenset(WORKLOAD_LEVELS))
    node, kinds = snapshot.node, snapshot.kinds
    views = {name: _rows(view) for name, view in snapshot.workloads.items()}
    if whole.cgroups:
        of_processes, ran = whole.cgroups.of_processes, snapshot.workloads["process"].ran_rows
        names = tuple(of_processes[row] for row in ran.tolist())
        views["process"] = replace(views["process"], cgroups=names)
        columns = [index for index, kind in enumerate(whole.kinds) if kind in kinds]
        rows = _rows(whole.cgroups.table)
        views[CGROUP] = replace(
            rows,
            uj=rows.uj[:, columns],
            total_uj=rows.total_uj[:, columns],
            left_out_uj=np.zeros(len(kinds)),
        )
    return Frame(
        at_s=snapshot.at_s,
        interval_s=snapshot.interval_s,
        kinds=kinds,
        unread_kinds=snapshot.unread_kinds,
        meter=snapshot.stats.meter.name,
        is_estimate=snapshot.stats.meter.is_estimate,
        usage_ratio=node.usage_ratio,
        energy_uj=_by_kind(node.zones, kinds, node.interval_energy_uj),
        idle_uj=_by_kind(node.zones, kinds, node.interval_idle_uj),
        unattributed_uj=_by_kind(node.zones, kinds, node.interval_unattributed_uj),
        process_uj=views["process"].uj.sum(axis=0),
        views=views,
    )


def _rows(view: WorkloadView) -> Rows:
    rows = view.ran_rows
    return Rows(
        labels=tuple(view.labels[row] for row in rows.tolist()),
        uj=view.ran_uj,
        total_uj=view.energy_uj[rows],
        cpu_ns=view.ran_cpu_ns,
        state=view.state[rows].astype(np.int64),
        cgroups=(),
        left_out=0,
        left_out_uj=np.zeros(view.ran_uj.shape[1]),
    )


def _by_kind(zones: tuple[Zone, ...], kinds: tuple[str, ...], uj: Floats) -> Floats:
    sums: Floats = np.zeros(len(kinds))
    np.add.at(sums, [kinds.index(zone.kind) for zone in zones], uj)
    return sums
