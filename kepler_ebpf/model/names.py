"""How the ledger asks what a cgroup, a process or a pod is called.

The ledger asks once for each new one and never waits: whoever answers gives what is known now and
tells the ledger of better names later (``Ledger.relabel_process`` and the others).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, UnitLabels, VmLabels


@dataclass(frozen=True, slots=True)
class CgroupName:
    """A cgroup: its path, and the container, the pod ("" for none) and the unit it belongs to."""

    path: str
    container: ContainerLabels | None = None
    pod_id: str = ""
    unit: UnitLabels | None = None

    @property
    def container_id(self) -> str:
        """The container's id, "" outside containers."""
        return self.container.container_id if self.container else ""


@dataclass(frozen=True, slots=True)
class ProcessName:
    """What only the process's own files tell: its executable and the machine it runs, if any."""

    exe: str = ""
    vm: VmLabels | None = None


class Naming(Protocol):
    """Where names come from. No method raises or blocks; an unknown name is empty."""

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """Name a cgroup (``layout.TASK`` says what its id is) the ledger has not met before."""

    def process(self, tgid: int, start_ns: int, comm: str, cgroup: CgroupName) -> ProcessName:
        """Name a process that is new, or has called exec, and was alive when last seen."""

    def pod(self, pod_id: str) -> PodLabels:
        """Name a pod the ledger has not met before."""
