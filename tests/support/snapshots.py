"""Builds snapshots for the exporters' tests, with figures that are easy to tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kepler_ebpf.exporters.metric import Build, Host
from kepler_ebpf.host.topology import CpuInfo
from kepler_ebpf.model.energy import MeterStats, Zone
from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.model.snapshot import NodeView, Snapshot
from kepler_ebpf.model.stats import (
    ExportStats,
    LoopStats,
    OwnUsage,
    ProgramStats,
    Stats,
    TrackerStats,
)
from kepler_ebpf.model.workloads import (
    ContainerLabels,
    PodLabels,
    ProcessLabels,
    State,
    UnitLabels,
    VmLabels,
    WorkloadView,
)

KINDS = ("package", "dram")
INTERVAL_S = 0.5
CONTAINER_ID = "c" * 64
POD_ID = "11111111-2222-3333-4444-555555555555"
HOST = Host(
    node_name="node-1",
    build=Build("x86_64", "main", "abc123", "0.1.0", "3.11.2"),
    cpus=(CpuInfo("0", "GenuineIntel", "A CPU @ 2 GHz", "0", "0"),),
)


@dataclass(frozen=True)
class Row:
    """One row of a workload table; ``ran_uj`` None: it used no CPU in the last interval."""

    labels: Any
    energy_uj: tuple[float, ...] = (2_000_000.0, 500_000.0)
    cpu_ns: int = 1_500_000_000
    state: State = State.RUNNING
    ran_uj: tuple[float, ...] | None = (250_000.0, 50_000.0)


GAP = Row(None, (0.0, 0.0), 0, State.FREE, None)


def process(pid: int = 100, comm: str = "worker", **changes: Any) -> ProcessLabels:
    """Return the labels of a process outside of any container."""
    labels = ProcessLabels(pid, 1, comm, f"/usr/bin/{comm}", "regular", "", "")
    return replace(labels, **changes)


def container(container_id: str = CONTAINER_ID, name: str = "web") -> ContainerLabels:
    """Return the labels of a docker container in the pod of ``pod``."""
    return ContainerLabels(container_id, name, "docker", POD_ID)


def vm(vm_id: str = "vm-1") -> VmLabels:
    """Return the labels of a KVM machine."""
    return VmLabels(vm_id, "builder", "kvm")


def pod(pod_id: str = POD_ID) -> PodLabels:
    """Return the labels of a pod."""
    return PodLabels(pod_id, "shop-0", "retail")


def pod_info(pod_id: str = POD_ID, *labels: tuple[str, str]) -> PodInfo:
    """Return a pod of a Deployment as Kubernetes describes it, with some of its own *labels*."""
    return PodInfo(
        pod_id, "shop-0", "retail", pod_id, "node-1", "Deployment", "shop", "Burstable", labels
    )


def view(rows: Sequence[Row], kinds: Sequence[str] = KINDS) -> WorkloadView:
    """Return a workload table with these rows and a little retired energy."""
    ran = [index for index, row in enumerate(rows) if row.ran_uj is not None]
    return WorkloadView(
        labels=tuple(row.labels for row in rows),
        energy_uj=np.array([row.energy_uj for row in rows], dtype=np.float64).reshape(
            len(rows), len(kinds)
        ),
        cpu_ns=np.array([row.cpu_ns for row in rows], dtype=np.float64),
        state=np.array([row.state for row in rows], dtype=np.uint8),
        ran_rows=np.array(ran, dtype=np.int64),
        ran_uj=np.array([rows[index].ran_uj for index in ran], dtype=np.float64).reshape(
            len(ran), len(kinds)
        ),
        ran_cpu_ns=np.full(len(ran), 200_000_000.0),
        retired_uj=np.full(len(kinds), 3_000_000.0),
        retired_cpu_ns=4_000_000_000,
    )


def node() -> NodeView:
    """Return a node with two package zones and one for all of its memory."""
    return NodeView(
        zones=(
            Zone("package", 0, "/sys/class/powercap/intel-rapl:0"),
            Zone("package", 1, "/sys/class/powercap/intel-rapl:1"),
            Zone("dram", None, "/sys/class/powercap/intel-rapl:0:0"),
        ),
        energy_uj=np.array([10e6, 20e6, 5e6]),
        active_uj=np.array([4e6, 8e6, 1e6]),
        idle_uj=np.array([6e6, 12e6, 4e6]),
        unattributed_uj=np.array([0.5e6, 0.25e6, 0.0]),
        interval_energy_uj=np.array([1e6, 2e6, 0.5e6]),
        interval_active_uj=np.array([0.4e6, 0.8e6, 0.1e6]),
        interval_idle_uj=np.array([0.6e6, 1.2e6, 0.4e6]),
        interval_unattributed_uj=np.array([0.1e6, 0.05e6, 0.0]),
        usage_ratio=0.4,
    )


def stats() -> Stats:
    """Return the run's account of itself in which every figure is another."""
    return Stats(
        loader="core",
        tracker=TrackerStats(
            lost_ns=7_000_000_000,
            hidden_ns=5_000_000_000,
            overflow_ns=8_000_000_000,
            cgroup_events_lost=4,
            exec_events_lost=20,
            process_ends_lost=23,
            map_fill_ratio=0.09,
            close_s=0.005,
        ),
        programs=ProgramStats(run_ns=13_000_000_000, run_count=14, missed_count=15),
        meter=MeterStats(
            "rapl", is_estimate=False, errors={("/sys/class/powercap/intel-rapl:0", "jump"): 12}
        ),
        loop=LoopStats(
            intervals=101,
            failed_intervals=2,
            missed_ticks=3,
            lateness_s=0.004,
            work_s=0.006,
            residual_ratio=1e-12,
            accounting_ratio=1e-4,
        ),
        own=OwnUsage(cpu_ns=16_000_000_000, energy_uj=np.array([17e6, 18e6])),
        exports=ExportStats(19, {"failed": 24}),
        limits={"process": 21},
    )


def snapshot(
    processes: Sequence[Row] | None = None,
    containers: Sequence[Row] = (Row(container()),),
    at_s: float = 1_000_000.0,
    end_s: float = 5_000.0,
) -> Snapshot:
    """Return a snapshot of one workload of each kind, or of these processes and containers."""
    return Snapshot(
        at_s=at_s,
        end_s=end_s,
        interval_s=INTERVAL_S,
        kinds=KINDS,
        unread_kinds=frozenset(),
        node=node(),
        workloads={
            "process": view([Row(process())] if processes is None else processes),
            "container": view(containers),
            "vm": view([Row(vm())]),
            "pod": view([Row(pod())]),
            "unit": view([Row(UnitLabels("cron.service", "systemd"))]),
        },
        stats=stats(),
        pod_infos=(pod_info(),),
        pod_source=PodSourceHealth(up=True, last_sync_s=999_999.0, errors={"network": 18}),
    )
