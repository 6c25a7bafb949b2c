"""One published state of everything: what the exporters show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.model.stats import Stats
from kepler_ebpf.model.workloads import WorkloadView


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node's energy by zone: totals since start and the last interval, shape (zones,) each."""

    zones: tuple[Zone, ...]
    energy_uj: Floats
    active_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats
    interval_energy_uj: Floats
    interval_active_uj: Floats
    interval_idle_uj: Floats
    interval_unattributed_uj: Floats
    usage_ratio: float


@dataclass(frozen=True, slots=True)
class CgroupsView:
    """What each cgroup used, and the cgroup of each row of processes, None where not known.

    Labels are ``CgroupName`` in both; ``table`` is as that of any kind of workload.
    """

    table: WorkloadView
    of_processes: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published state: immutable, swapped by reference, the same for every reader.

    ``interval_s`` is the measured length of the last interval, ``at_s`` its end as a Unix time,
    ``end_s`` on the monotonic clock, which no one can set.
    ``kinds`` is the column order of every array with a ``kinds`` axis; a kind whose zones have
    counted nothing since start is not exported. ``unread_kinds`` are those of which a zone could
    not be read at the end of the interval, or not in time: their power is not known, so none is
    shown. ``workloads`` has one table for each of ``model.levels.WORKLOAD_LEVELS``, by its name.
    ``pod_infos`` is the same object as long as nothing about the pods changed; without Kubernetes
    it is empty and ``pod_source`` is None. ``cgroups`` and ``tasks`` are
    made on request only.
    """

    at_s: float
    end_s: float
    interval_s: float
    kinds: tuple[str, ...]
    unread_kinds: frozenset[str]
    node: NodeView
    workloads: Mapping[str, WorkloadView]
    stats: Stats
    pod_infos: tuple[PodInfo, ...] = ()
    pod_source: PodSourceHealth | None = None
    cgroups: CgroupsView | None = None
    tasks: WorkloadView | None = None
