"""Every metric that kepler-ebpf exports: the one table the exporters and the documents follow.

An entry states name, HELP text, labels, level, and how its figures are read. Names, types and
labels without the ``kepler_ebpf`` prefix are Kepler's own and never change here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Any, TypeVar

import numpy as np

from kepler_ebpf.exporters.metric import (
    ALWAYS,
    Columns,
    Host,
    Metric,
    SampledMetric,
    Samples,
    WorkloadMetric,
    figure,
)
from kepler_ebpf.exporters.own_metrics import AGE, OWN_METRICS, POD_SOURCE, WEB
from kepler_ebpf.exporters.web_config import WebReload
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.levels import NODE, WORKLOAD_LEVELS, WorkloadLevel
from kepler_ebpf.model.snapshot import NodeView, Snapshot
from kepler_ebpf.model.workloads import WorkloadView

M = TypeVar("M", bound=Metric)

# --- the host and the run -----------------------------------------------------------------------

HOST: tuple[SampledMetric[Host], ...] = (
    SampledMetric(
        "kepler_node_cpu_info",
        "Always 1; one series for each logical CPU.",
        ("processor", "vendor_id", "model_name", "physical_id", "core_id"),
        node_name=False,
        read=lambda host: [(astuple(cpu), 1.0) for cpu in host.cpus],
    ),
    SampledMetric(
        "kepler_build_info",
        "Always 1; the running build, with the Python version as goversion.",
        ("arch", "branch", "revision", "version", "goversion"),
        node_name=False,
        read=lambda host: [(astuple(host.build), 1.0)],
    ),
)

# --- the node -----------------------------------------------------------------------------------


def _of_kinds(name: str, what: str, field: str) -> Iterator[SampledMetric[Snapshot]]:
    """Yield the total and the mean power of the energy in a *field* of the node, by kind."""

    def watts(snapshot: Snapshot) -> Samples:
        interval_uj = getattr(snapshot.node, f"interval_{field}")
        samples = _by_kind(snapshot.node, interval_uj / (UJ_PER_J * snapshot.interval_s))
        return (sample for sample in samples if sample[0][0] not in snapshot.unread_kinds)

    yield SampledMetric(
        f"{name}_joules_total",
        f"Energy of the zone{what} since start, in joules.",
        ("zone", "path"),
        NODE,
        read=lambda snapshot: _by_kind(snapshot.node, getattr(snapshot.node, field) / UJ_PER_J),
    )
    yield SampledMetric(
        f"{name}_watts",
        f"Mean power of the zone{what} over the last interval, in watts.",
        ("zone", "path"),
        NODE,
        read=watts,
    )


def _by_kind(node: NodeView, figures: Floats) -> Iterator[tuple[tuple[str, str], float]]:
    """Sum the zones of a kind, as Kepler does: sockets have no label there."""
    for kind in dict.fromkeys(zone.kind for zone in node.zones):
        rows = [row for row, zone in enumerate(node.zones) if zone.kind == kind]
        path = node.zones[rows[0]].path if len(rows) == 1 else f"aggregated-{kind}"
        yield (kind, path), float(figures[rows].sum())


def _by_zone(
    node: NodeView, energy_uj: Floats, *labels: str
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the joules of each zone that has moved, by socket."""
    rows = zip(node.zones, energy_uj.tolist(), node.energy_uj.tolist(), strict=True)
    for zone, uj, total_uj in rows:
        if total_uj > 0:
            socket = "" if zone.socket is None else str(zone.socket)
            yield (zone.kind, socket, zone.path, *labels), uj / UJ_PER_J


NODES: tuple[SampledMetric[Snapshot], ...] = (
    *_of_kinds("kepler_node_cpu", "", "energy_uj"),
    *_of_kinds("kepler_node_cpu_active", " that work used", "active_uj"),
    *_of_kinds("kepler_node_cpu_idle", " that idling used", "idle_uj"),
    figure(
        "kepler_node_cpu_usage_ratio",
        "Busy share of the CPU time in the last interval, from 0 to 1.",
        lambda snapshot: snapshot.node.usage_ratio,
        level=NODE,
    ),
    SampledMetric(
        "kepler_ebpf_zone_joules_total",
        "Energy of one zone of one socket since start, split into active and idle, in joules.",
        ("zone", "socket", "path", "split"),
        NODE,
        read=lambda snapshot: [
            *_by_zone(snapshot.node, snapshot.node.active_uj, "active"),
            *_by_zone(snapshot.node, snapshot.node.idle_uj, "idle"),
        ],
    ),
    SampledMetric(
        "kepler_ebpf_unattributed_joules_total",
        "Active energy of the zone that is in no process row, in joules; "
        "the process rows and this add up to the active energy.",
        ("zone", "socket", "path"),
        NODE,
        read=lambda snapshot: _by_zone(snapshot.node, snapshot.node.unattributed_uj),
    ),
)

# --- workloads ----------------------------------------------------------------------------------


def _joules(snapshot: Snapshot, view: WorkloadView) -> Columns:
    return zip(snapshot.kinds, (view.energy_uj / UJ_PER_J).T, strict=True)


def _watts(snapshot: Snapshot, view: WorkloadView) -> Columns:
    watts = np.zeros_like(view.energy_uj)
    watts[view.ran_rows] = view.ran_uj / (UJ_PER_J * snapshot.interval_s)
    columns = zip(snapshot.kinds, watts.T, strict=True)
    return ((kind, column) for kind, column in columns if kind not in snapshot.unread_kinds)


def _seconds(_: Snapshot, view: WorkloadView) -> Columns:
    return [("", view.cpu_ns / NS_PER_S)]


def _of_level(level: WorkloadLevel) -> Iterator[WorkloadMetric[Snapshot]]:
    prefix, by_zone = f"{level.prefix}_{level.name}_cpu", (*level.labels, "state", "zone")
    yield WorkloadMetric(
        f"{prefix}_joules_total",
        f"Active energy attributed to the {level.name} since start, in joules.",
        by_zone,
        level.name,
        read=_joules,
    )
    yield WorkloadMetric(
        f"{prefix}_watts",
        f"Mean power of the {level.name} over the last interval, in watts; 0 if it did not run.",
        by_zone,
        level.name,
        read=_watts,
    )
    if level.seconds_labels is not None:
        yield WorkloadMetric(
            f"{prefix}_seconds_total",
            f"CPU time of the {level.name} since it was first seen, in seconds.",
            level.seconds_labels,
            level.name,
            read=_seconds,
        )


WORKLOADS = tuple(metric for level in WORKLOAD_LEVELS.values() for metric in _of_level(level))

_POD = WORKLOAD_LEVELS["pod"]
POD_INFO = Metric(
    "kepler_ebpf_pod_info",
    "Always 1; one series for each pod, to join on, with the labels of ebpf.podLabels.",
    (*_POD.labels, "cgroup_pod_id", "node", "owner_kind", "owner_name", "qos_class"),
    _POD.name,
)
"""Its labels are attributes of ``model.pods.PodInfo``."""

# --- energy beside the rows, and the interval ---------------------------------------------------

OTHERS: tuple[SampledMetric[Snapshot], ...] = (
    SampledMetric(
        "kepler_ebpf_retired_joules_total",
        "Energy of workloads that are not listed, in joules; for processes it is the sum of the "
        "[retired] and [others] rows, for other levels it is of ended ones, beside the rows.",
        ("level", "zone"),
        read=lambda snapshot: [
            ((level, kind), uj / UJ_PER_J)
            for level, view in snapshot.workloads.items()
            for kind, uj in zip(snapshot.kinds, view.retired_uj.tolist(), strict=True)
        ],
    ),
    SampledMetric(
        "kepler_ebpf_retired_cpu_seconds_total",
        "CPU time of workloads that are not listed, in seconds, as their energy.",
        ("level",),
        read=lambda snapshot: [
            ((level,), view.retired_cpu_ns / NS_PER_S) for level, view in snapshot.workloads.items()
        ],
    ),
    SampledMetric(
        "kepler_ebpf_own_joules_total",
        "Active energy attributed to kepler-ebpf itself, in joules.",
        ("zone",),
        read=lambda snapshot: [
            ((kind,), uj / UJ_PER_J)
            for kind, uj in zip(snapshot.kinds, snapshot.stats.own.energy_uj.tolist(), strict=True)
        ],
    ),
    figure(
        "kepler_ebpf_interval_duration_seconds",
        "Measured length of the last interval, in seconds.",
        lambda snapshot: snapshot.interval_s,
    ),
)

SAMPLED: tuple[Metric, ...] = (*NODES, *HOST, *OTHERS, *POD_SOURCE, *OWN_METRICS, *WEB, *AGE)
"""The metrics of few samples; the samples of the others grow with the workloads."""

METRICS = (*NODES, *WORKLOADS, POD_INFO, *SAMPLED[len(NODES) :])
"""All of them, in the order in which the documents list them."""


def selected(metrics: Iterable[M], levels: frozenset[str]) -> tuple[M, ...]:
    """Return the metrics that a run with these levels exports."""
    return tuple(metric for metric in metrics if metric.level in {ALWAYS, *levels})


def read_samples(
    host: Host, web: WebReload | None, snapshot: Snapshot | None, now_s: float
) -> Iterator[tuple[Metric, Samples]]:
    """Yield the metrics of SAMPLED that are exported and whose source exists, with their samples.

    *now_s* is on the monotonic clock.
    """
    sources: list[tuple[tuple[SampledMetric[Any], ...], object]] = [(HOST, host), (WEB, web)]
    if snapshot is not None:
        sources += [
            (NODES + OTHERS, snapshot),
            (OWN_METRICS, snapshot.stats),
            (AGE, max(0.0, now_s - snapshot.end_s)),
            (POD_SOURCE, snapshot.pod_source),
        ]
    for metrics, source in sources:
        if source is not None:
            yield from ((m, m.read(source)) for m in selected(metrics, host.levels))
