"""The values that travel from the kernel maps to the exporters.

Everything here is frozen and does no I/O. Arrays inside are written once by their maker and
read-only afterwards. Units are in the names: ``_ns`` nanoseconds, ``_uj`` microjoules, ``_w``
watts. Energy is float64, kernel time is uint64 or int64 and is never divided before the exporter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.pod_view import PodInfo, PodSourceHealth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Records = NDArray[Any]
"""A structured array; its dtype is named where it is used (see ``kernel.layout``)."""

ZONE_KINDS = ("package", "core", "uncore", "dram", "psys")
PRIMARY_ORDER = ("psys", "package", "core", "dram", "uncore")
"""Preference for the one zone that ranks and filters ended workloads."""

NS_PER_S = 1_000_000_000
UJ_PER_J = 1_000_000


# --- meters ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Zone:
    """One energy counter: its kind, the socket it measures (None: the node), its source."""

    kind: str
    socket: int | None
    path: str


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What a meter's zones have counted since it was opened.

    ``energy_uj`` is cumulative and unwrapped, one float64 per zone, never falling. Where ``valid``
    is False the zone could not be read now and its figure is the last known one; what it consumed
    meanwhile is in the figure of its next valid reading. ``gaps`` counts for each zone how often
    something it consumed became unknown for good: no figure will ever have it.
    """

    at_ns: int
    energy_uj: Floats
    valid: Bools
    gaps: Ints


class Meter(Protocol):
    """A source of energy readings. ``read`` never raises for one zone; see ``MeterReading``."""

    @property
    def name(self) -> str:
        """One of rapl, perf, estimate, fake."""

    @property
    def is_estimate(self) -> bool:
        """True where the figures are modelled, not measured."""

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of every reading."""

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Counted faults so far by (zone path, reason); reasons: read, jump, stuck, gap."""

    @property
    def longest_wait_s(self) -> float:
        """How long it may go unread without a gap, whatever is drawn meanwhile."""

    def read(self) -> MeterReading:
        """Read every zone once."""

    def close(self) -> None:
        """Release what the meter holds open."""


# --- the kernel's account ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SocketTime:
    """CPU time of one interval by socket; every array is int64 of shape (sockets,).

    ``window_ns`` is CPU time that existed: busy + idle, exactly. ``busy_ns`` includes
    ``lost_ns``, the time the kernel maps had no room to give to a task or a cgroup.
    """

    window_ns: Ints
    busy_ns: Ints
    idle_ns: Ints
    lost_ns: Ints


@dataclass(frozen=True, slots=True)
class Usage:
    """The kernel's account of one closed interval.

    ``tasks`` has one record (``layout.TASK``) for each task, cgroup and socket that used CPU
    time. Tasks that found no room in the task map are summed in one record for each cgroup and
    socket, with pid and tgid 0 (see ``UNTRACKED_COMM``). ``wall_ns`` is the CPU time that passed
    by the clock alone, to hold the account against.
    """

    start_ns: int
    end_ns: int
    wall_ns: int
    tasks: Records
    sockets: SocketTime

    @property
    def interval_s(self) -> float:
        """Length of the interval by the clock."""
        return (self.end_ns - self.start_ns) / NS_PER_S


UNTRACKED_COMM = "[untracked]"
"""The comm of the record that holds the time of a cgroup's tasks the kernel map had no room for."""


# --- attribution ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribution:
    """The energy of one interval, each microjoule in exactly one place.

    Shapes: ``shares_uj`` (tasks, kinds); the others (zones,). For each zone
    ``energy = active + idle`` and ``active = its tasks' shares + unattributed``.
    ``shares_uj`` sums the sockets of a kind, ``kinds`` being its column order.
    """

    kinds: tuple[str, ...]
    shares_uj: Floats
    active_uj: Floats
    idle_uj: Floats
    unattributed_uj: Floats


# --- workloads and the snapshot -----------------------------------------------------------------


class State(IntEnum):
    """The life of a row in a workload table."""

    FREE = 0
    RUNNING = 1
    TERMINATED = 2


@dataclass(frozen=True, slots=True)
class ProcessLabels:
    """A process as the exporters show it. A changed label is a new object."""

    pid: int
    start_ns: int
    comm: str
    exe: str
    type: str
    container_id: str
    vm_id: str


@dataclass(frozen=True, slots=True)
class ContainerLabels:
    """A container as the exporters show it. A changed label is a new object."""

    container_id: str
    container_name: str
    runtime: str
    pod_id: str


@dataclass(frozen=True, slots=True)
class VmLabels:
    """A virtual machine as the exporters show it."""

    vm_id: str
    vm_name: str
    hypervisor: str


@dataclass(frozen=True, slots=True)
class PodLabels:
    """A pod as the exporters show it."""

    pod_id: str
    pod_name: str
    pod_namespace: str


@dataclass(frozen=True, slots=True)
class UnitLabels:
    """A systemd unit or a Slurm step as the exporters show it; ``kind`` is systemd or slurm."""

    unit: str
    kind: str


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """Totals of every workload of one kind, row by row; rows whose state is FREE are gaps.

    ``labels[row]`` is None for a gap. ``energy_uj`` (rows, kinds), ``cpu_ns`` (rows,) and
    ``state`` (rows,) are totals since start. ``ran_rows`` (ran,) are the rows that used CPU in
    the last interval and ``ran_uj`` (ran, kinds) what they were given for it; every other row
    drew 0 W. ``folded_uj`` (kinds,) and ``folded_cpu_ns`` carry ended workloads that are not
    listed any more, so rows + folded is everything this level was ever given.
    """

    labels: tuple[Any, ...]
    energy_uj: Floats
    cpu_ns: Ints
    state: NDArray[np.uint8]
    ran_rows: Ints
    ran_uj: Floats
    folded_uj: Floats
    folded_cpu_ns: int


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
    unseen_ns: int
    untracked_ns: int
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
