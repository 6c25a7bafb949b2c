"""The identities of workloads, and their names.

The ledger looks up each new workload once and never waits: what is known is returned at once,
better names come later (``Ledger.relabel_process`` and the others).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kepler_ebpf.model.bounds import Labels
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, VmLabels

CGROUP_V1_BIT = 1 << 63
"""Set in the id of a cgroup of a v1 hierarchy; inode numbers repeat across hierarchies."""


class CgroupEvent(NamedTuple):
    """A cgroup was made or removed; ``path``, perhaps cut, is below the root of its hierarchy."""

    cgroup_id: int
    path: str
    removed: bool


class ExecEvent(NamedTuple):
    """A successful exec, as the kernel side saw it.

    ``start_ns`` is the start of the process (its leader, boot time), ``exec_id`` its number of
    execs so far. ``exe`` is the path of the executable's file, "" where it was not resolved.
    ``arguments`` are the first arguments, argv[0] included, perhaps cut.
    """

    tgid: int
    start_ns: int
    exec_id: int
    exe: str
    arguments: tuple[str, ...]


class ProcessIdentity(NamedTuple):
    """A process that is to be named, as it is in the kernel's records.

    ``is_alive`` is False for a process that has ended: /proc is not read for it.
    """

    tgid: int
    start_ns: int
    exec_id: int
    comm: str
    is_alive: bool = True


@dataclass(frozen=True, slots=True)
class CgroupName:
    """A cgroup: its path, and the container and the pod ("" for none) that it belongs to.

    ``groups`` are the workloads of other kinds that the path is in: level and labels of each.
    ``owner`` is whoever can make more cgroups beside it: workloads are limited by owner.
    """

    path: str
    container: ContainerLabels | None = None
    pod_id: str = ""
    groups: tuple[tuple[str, Hashable], ...] = ()
    owner: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """A short name for people."""
        return self.path or "/"

    @property
    def container_id(self) -> str:
        """The container's id, "" outside containers."""
        return self.container.container_id if self.container else ""


@dataclass(frozen=True, slots=True)
class ProcessName(Labels):
    """What the kernel's records do not have: the executable, and the VM that the process runs."""

    exe: str = ""
    vm: VmLabels | None = None


class Naming(Protocol):
    """Where names come from. No method raises or blocks; an unknown name is empty."""

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """Name a cgroup (``layout.TASK`` defines its id) that is new to the ledger."""

    def process(self, identity: ProcessIdentity) -> ProcessName:
        """Name a process that is new or has called exec."""

    def pod(self, pod_id: str) -> PodLabels:
        """Name a pod that is new to the ledger."""
