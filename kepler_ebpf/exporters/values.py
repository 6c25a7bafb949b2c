"""The figures of the node, health and info families: what each one shows of a Snapshot.

One entry for each metric of the catalog that is not proportional to workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kepler_ebpf.exporters.catalog import LEVELS, WORKLOAD_LEVELS
from kepler_ebpf.host.topology import CpuInfo
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.model.pods import PodSourceHealth
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import WorkloadView

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values in the catalog's order, and the figure in the metric's own unit."""


@dataclass(frozen=True, slots=True)
class Build:
    """The labels of kepler_build_info; ``goversion`` holds the Python version."""

    arch: str
    branch: str
    revision: str
    version: str
    goversion: str


@dataclass(frozen=True, slots=True)
class Host:
    """What the page says of the machine and the run, and what does not change while it lasts."""

    node_name: str
    build: Build
    cpus: tuple[CpuInfo, ...] = ()
    levels: frozenset[str] = frozenset(LEVELS)


def static_samples(host: Host) -> dict[str, Samples]:
    """Return the families that need no snapshot, by metric name."""
    build = host.build
    return {
        "kepler_build_info": [
            ((build.arch, build.branch, build.revision, build.version, build.goversion), 1.0)
        ],
        "kepler_node_cpu_info": [
            ((cpu.processor, cpu.vendor_id, cpu.model_name, cpu.physical_id, cpu.core_id), 1.0)
            for cpu in host.cpus
        ],
    }


def snapshot_samples(
    snapshot: Snapshot, levels: frozenset[str], age_s: float
) -> dict[str, Samples]:
    """Return every other family by metric name; *levels* limits what is said of retired rows."""
    return {
        **{name: _node(snapshot, name, figures(snapshot)) for name, figures in _NODE.items()},
        **{name: [((), figure(snapshot))] for name, figure in _PLAIN.items()},
        **_ledger(snapshot, levels),
        **_health(snapshot),
        **_pod_source(snapshot.pod_source),
        "kepler_ebpf_snapshot_age_seconds": [((), age_s)],
    }


_NODE: dict[str, Callable[[Snapshot], Floats]] = {
    "kepler_node_cpu_joules_total": lambda s: s.node.energy_uj / UJ_PER_J,
    "kepler_node_cpu_active_joules_total": lambda s: s.node.active_uj / UJ_PER_J,
    "kepler_node_cpu_idle_joules_total": lambda s: s.node.idle_uj / UJ_PER_J,
    "kepler_node_cpu_watts": lambda s: s.node.interval_energy_uj / (UJ_PER_J * s.interval_s),
    "kepler_node_cpu_active_watts": lambda s: s.node.interval_active_uj / (UJ_PER_J * s.interval_s),
    "kepler_node_cpu_idle_watts": lambda s: s.node.interval_idle_uj / (UJ_PER_J * s.interval_s),
}
"""One figure for each zone, in joules or watts."""

_PLAIN: dict[str, Callable[[Snapshot], float]] = {
    "kepler_node_cpu_usage_ratio": lambda s: s.node.usage_ratio,
    "kepler_ebpf_meter_estimate": lambda s: float(s.health.meter_is_estimate),
    "kepler_ebpf_residual_ratio": lambda s: s.health.residual_ratio,
    "kepler_ebpf_accounting_error_ratio": lambda s: s.health.accounting_ratio,
    "kepler_ebpf_lost_cpu_seconds_total": lambda s: s.health.lost_ns / NS_PER_S,
    "kepler_ebpf_hidden_cpu_seconds_total": lambda s: s.health.hidden_ns / NS_PER_S,
    "kepler_ebpf_overflow_cpu_seconds_total": lambda s: s.health.overflow_ns / NS_PER_S,
    "kepler_ebpf_lost_cgroup_events_total": lambda s: s.health.cgroup_events_lost,
    "kepler_ebpf_own_cpu_seconds_total": lambda s: s.health.own_cpu_ns / NS_PER_S,
    "kepler_ebpf_map_fill_ratio": lambda s: s.health.map_fill_ratio,
    "kepler_ebpf_interval_duration_seconds": lambda s: s.interval_s,
    "kepler_ebpf_interval_lateness_seconds": lambda s: s.health.lateness_s,
    "kepler_ebpf_drain_seconds": lambda s: s.health.close_s,
    "kepler_ebpf_work_seconds": lambda s: s.health.work_s,
    "kepler_ebpf_intervals_total": lambda s: s.health.intervals,
    "kepler_ebpf_failed_intervals_total": lambda s: s.health.failed_intervals,
    "kepler_ebpf_missed_ticks_total": lambda s: s.health.missed_ticks,
    "kepler_ebpf_stdout_dropped_total": lambda s: s.health.stdout_dropped,
    "kepler_ebpf_bpf_missed_runs_total": lambda s: s.health.bpf_missed,
}
"""The families with one figure and no label."""


def _node(snapshot: Snapshot, name: str, figures: Floats) -> Samples:
    """Give a figure by kind; no power of a kind that could not be read."""
    unread = snapshot.unread_kinds if name.endswith("_watts") else frozenset()
    return [sample for sample in _by_kind(snapshot, figures) if sample[0][0] not in unread]


def _by_kind(snapshot: Snapshot, figures: Floats) -> Iterator[tuple[tuple[str, str], float]]:
    """Sum the zones of a kind, as Kepler does: sockets have no label there."""
    zones = snapshot.node.zones
    for kind in dict.fromkeys(zone.kind for zone in zones):
        places = [place for place, zone in enumerate(zones) if zone.kind == kind]
        path = zones[places[0]].path if len(places) == 1 else f"aggregated-{kind}"
        yield (kind, path), float(figures[places].sum())


def _ledger(snapshot: Snapshot, levels: frozenset[str]) -> dict[str, Samples]:
    node = snapshot.node
    retired = [(level, view) for level, view in workloads(snapshot) if level in levels]
    return {
        "kepler_ebpf_zone_joules_total": [
            *_by_zone(snapshot, node.active_uj, "active"),
            *_by_zone(snapshot, node.idle_uj, "idle"),
        ],
        "kepler_ebpf_unattributed_joules_total": _by_zone(snapshot, node.unattributed_uj),
        "kepler_ebpf_retired_joules_total": [
            ((level, kind), uj / UJ_PER_J)
            for level, view in retired
            for kind, uj in zip(snapshot.kinds, view.retired_uj.tolist(), strict=True)
        ],
        "kepler_ebpf_retired_cpu_seconds_total": [
            ((level,), view.retired_cpu_ns / NS_PER_S) for level, view in retired
        ],
    }


def _by_zone(
    snapshot: Snapshot, energy_uj: Floats, *more: str
) -> Iterator[tuple[tuple[str, ...], float]]:
    for zone, uj in zip(snapshot.node.zones, energy_uj.tolist(), strict=True):
        socket = "" if zone.socket is None else str(zone.socket)
        yield (zone.kind, socket, zone.path, *more), uj / UJ_PER_J


def _health(snapshot: Snapshot) -> dict[str, Samples]:
    health = snapshot.health
    timed = [health] if health.bpf_run_count else []
    return {
        "kepler_ebpf_info": [
            ((health.loader, health.meter_name, str(health.meter_is_estimate).lower()), 1.0)
        ],
        "kepler_ebpf_own_joules_total": [
            ((kind,), uj / UJ_PER_J)
            for kind, uj in zip(snapshot.kinds, health.own_uj.tolist(), strict=True)
        ],
        "kepler_ebpf_meter_errors_total": list(health.meter_errors.items()),
        "kepler_ebpf_bpf_run_seconds_total": [((), h.bpf_run_ns / NS_PER_S) for h in timed],
        "kepler_ebpf_bpf_runs_total": [((), h.bpf_run_count) for h in timed],
    }


def _pod_source(source: PodSourceHealth | None) -> dict[str, Samples]:
    """Say how the source of pods fares; nothing at all where Kubernetes is off."""
    if source is None:
        return {}
    syncs = [] if source.last_sync_s is None else [source.last_sync_s]
    return {
        "kepler_ebpf_pod_source_up": [((), float(source.up))],
        "kepler_ebpf_pod_source_last_sync_timestamp_seconds": [((), at_s) for at_s in syncs],
        "kepler_ebpf_pod_source_errors_total": [
            ((reason,), count) for reason, count in source.errors.items()
        ],
    }


def workloads(snapshot: Snapshot) -> tuple[tuple[str, WorkloadView], ...]:
    """Return the snapshot's workload tables by level."""
    views = (
        snapshot.processes,
        snapshot.containers,
        snapshot.vms,
        snapshot.pods,
        snapshot.units,
    )
    return tuple(zip(WORKLOAD_LEVELS, views, strict=True))
