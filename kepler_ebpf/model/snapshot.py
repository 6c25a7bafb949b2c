"""One published state of everything: what the exporters show."""

from __future__ import annotations

from dataclasses import dataclass

from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
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
    usage_ratio: float


@dataclass(frozen=True, slots=True)
class Health:
    """The sampler about itself; counters are since start."""

    intervals: int
    failed_intervals: int
    missed_ticks: int
    stdout_dropped: int
    lateness_s: float
    close_s: float
    work_s: float
    lost_ns: int
    hidden_ns: int
    overflow_ns: int
    cgroup_events_lost: int
    map_fill_ratio: float
    residual_ratio: float
    accounting_ratio: float
    meter_name: str
    meter_is_estimate: bool
    meter_errors: dict[tuple[str, str], int]
    loader: str
    bpf_run_ns: int
    bpf_run_count: int
    bpf_missed: int
    own_cpu_ns: int
    own_uj: Floats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published state: immutable, swapped by reference, the same for every reader.

    ``tasks`` (``layout.TASK``) and ``task_uj`` (tasks, kinds) are the last interval's threads.
    ``interval_s`` is the measured length of that interval, ``at_s`` its end as a Unix time.
    ``pod_infos`` is the same object as long as nothing about the pods changed; without Kubernetes
    it is empty and ``pod_source`` is None. ``unread_kinds`` are those of which a zone could not be
    read at the end of the interval, or not in time: what they drew in it is not known, so no power
    is shown.
    """

    at_s: float
    interval_s: float
    kinds: tuple[str, ...]
    unread_kinds: frozenset[str]
    node: NodeView
    processes: WorkloadView
    containers: WorkloadView
    vms: WorkloadView
    pods: WorkloadView
    units: WorkloadView
    tasks: Records
    task_uj: Floats
    health: Health
    pod_infos: tuple[PodInfo, ...]
    pod_source: PodSourceHealth | None
