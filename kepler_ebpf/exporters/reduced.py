"""Reduces a snapshot to what ran in its interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kepler_ebpf.exporters.below import rows_with_below
from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.frame import CGROUP, TASK, Frame, Rows
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import WorkloadView


def frame_of(whole: Snapshot) -> Frame:
    """Return what ran in the interval that *whole* shows."""
    snapshot = exported(whole, frozenset(WORKLOAD_LEVELS))
    node, kinds = snapshot.node, snapshot.kinds
    columns = [index for index, kind in enumerate(whole.kinds) if kind in kinds]
    views = {name: _rows(view) for name, view in snapshot.workloads.items()}
    if whole.cgroups:
        of_processes, ran = whole.cgroups.of_processes, snapshot.workloads["process"].ran_rows
        names = tuple(of_processes[row] for row in ran.tolist())
        views["process"] = replace(views["process"], cgroups=names)
        views[CGROUP] = rows_with_below(whole.cgroups.table, columns)
    if whole.tasks:
        rows = _rows(whole.tasks)
        views[TASK] = replace(
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
