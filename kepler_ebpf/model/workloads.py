"""Workloads: their labels, their state, and the totals of all of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.model.bounds import Labels

OTHERS = "[others]"
"""The id of the workload that stands for those without a place of their own."""

RETIRED = "[retired]"
"""The comm of the row with the processes of a container that are listed no longer."""


class State(IntEnum):
    """The life of a row in a workload table."""

    FREE = 0
    RUNNING = 1
    TERMINATED = 2


@dataclass(frozen=True, slots=True)
class ProcessLabels(Labels):
    """A process as the exporters show it. A changed label is a new object."""

    pid: int
    start_ns: int
    comm: str
    exe: str
    type: str
    container_id: str
    vm_id: str

    @property
    def title(self) -> str:
        """A short name for people."""
        return f"{self.pid:>7} {self.comm}"


@dataclass(frozen=True, slots=True)
class TaskLabels(Labels):
    """A task: a thread of the process *tgid*, whose first thread has the same pid."""

    pid: int
    start_ns: int
    comm: str
    tgid: int
    process_start_ns: int
    process_comm: str

    @property
    def title(self) -> str:
        """A short name for people."""
        of = "" if self.pid == self.tgid else f" of {self.tgid} {self.process_comm}"
        return f"{self.pid:>7} {self.comm}{of}"


@dataclass(frozen=True, slots=True)
class ContainerLabels(Labels):
    """A container as the exporters show it. A changed label is a new object."""

    container_id: str
    container_name: str
    runtime: str
    pod_id: str

    @property
    def title(self) -> str:
        """A short name for people."""
        return f"{self.container_id[:12]} {self.container_name}"


@dataclass(frozen=True, slots=True)
class VmLabels(Labels):
    """A virtual machine as the exporters show it."""

    vm_id: str
    vm_name: str
    hypervisor: str

    @property
    def title(self) -> str:
        """A short name for people."""
        return f"{self.vm_id[:12]} {self.vm_name}"


@dataclass(frozen=True, slots=True)
class PodLabels(Labels):
    """A pod as the exporters show it."""

    pod_id: str
    pod_name: str
    pod_namespace: str

    @property
    def title(self) -> str:
        """A short name for people."""
        return f"{self.pod_namespace}/{self.pod_name or self.pod_id}"


@dataclass(frozen=True, slots=True)
class UnitLabels(Labels):
    """A systemd unit or a Slurm step as the exporters show it; ``kind`` is systemd or slurm."""

    unit: str
    kind: str

    @property
    def title(self) -> str:
        """A short name for people."""
        return self.unit


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """Totals of every workload of one kind, row by row; rows whose state is FREE are gaps.

    ``labels[row]`` is None for a gap; no two rows have the same exported labels. ``energy_uj``
    (rows, kinds), ``cpu_ns`` (rows,) and ``state`` (rows,) are totals since start. ``ran_rows``
    (ran,) are the rows that used CPU in the last interval, ``ran_cpu_ns`` (ran,) that time and
    ``ran_uj`` (ran, kinds) the energy attributed to them for it; every other row drew 0 W.

    ``retired_uj`` (kinds,) and ``retired_cpu_ns`` belong to ended workloads that have no row of
    their own. Rows + retired is the total of the level, but for processes: there the rows alone
    are, and retired is the sum of the ``[retired]`` and ``[others]`` rows among them.
    """

    labels: tuple[Any, ...]
    energy_uj: Floats
    cpu_ns: Floats
    state: NDArray[np.uint8]
    ran_rows: Ints
    ran_uj: Floats
    ran_cpu_ns: Floats
    retired_uj: Floats
    retired_cpu_ns: float
