"""The VMs of this host, each with an id of its own.

Remembers which processes run a VM. So two VMs that were given one id get two, the children of a
VM's process are the same VM, and the VM that a kernel helper thread works for is found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kepler_ebpf.model.workloads import VmLabels
from kepler_ebpf.names.processes.procfs import ProcessInfo, find_process, is_alive, parent_of
from kepler_ebpf.names.processes.vms import helper_owner, match_vm, unique_id

_FIRST_PRUNE = 64


@dataclass(frozen=True, slots=True)
class _Vm:
    """A process that runs a VM. ``given_id`` is the id before it was made unique."""

    tgid: int
    info: ProcessInfo
    given_id: str
    labels: VmLabels


class VmIds:
    """Names the VM of a process. Not thread-safe."""

    def __init__(self, procfs: str = "/proc") -> None:
        """Check the life of processes in *procfs*."""
        self._procfs = procfs
        self._by_tgid: dict[int, _Vm] = {}
        self._by_id: dict[str, list[_Vm]] = {}
        self._prune_at = _FIRST_PRUNE

    def of_process(self, tgid: int, info: ProcessInfo) -> VmLabels | None:
        """Return the VM that the process runs, None for any other process.

        The VM of a process changes only with its command line.
        """
        known = self._by_tgid.get(tgid)
        if known is not None:
            before = known.info
            if (before.start_ticks, before.cmdline) == (info.start_ticks, info.cmdline):
                return known.labels
            self.forget(tgid)
        labels = match_vm(info.cmdline, tgid, info.start_ticks, info.exe)
        return self._admit(_Vm(tgid, info, labels.vm_id, labels)) if labels else None

    def of_helper(self, comm: str) -> VmLabels | None:
        """Return the VM that a kernel thread of this name works for, None for any other."""
        owner = helper_owner(comm)
        found = None if owner is None else find_process(owner, self._procfs)
        return self.of_process(*found) if found else None

    def __len__(self) -> int:
        """Return how many processes are remembered."""
        return len(self._by_tgid)

    def forget(self, tgid: int) -> None:
        """Forget a process: it is gone, or runs another program by now."""
        vm = self._by_tgid.pop(tgid, None)
        if vm is not None:
            left = [other for other in self._by_id.pop(vm.given_id, ()) if other is not vm]
            if left:
                self._by_id[vm.given_id] = left

    def _admit(self, vm: _Vm) -> VmLabels:
        conflicts = [other for other in self._by_id.get(vm.given_id, ()) if self._is_alive(other)]
        parent = self._parent(vm)
        if parent is not None:
            vm = replace(vm, labels=parent.labels)
        elif conflicts:
            unique = f"{vm.given_id}-{unique_id(vm.tgid, vm.info.start_ticks)}"
            vm = replace(vm, labels=replace(vm.labels, vm_id=unique))
        self._by_tgid[vm.tgid] = vm
        self._by_id[vm.given_id] = [*conflicts, vm]
        self._prune()
        return vm.labels

    def _parent(self, vm: _Vm) -> _Vm | None:
        """Return the parent process that this one continues, when it is no VM of its own.

        A child before its exec continues its parent. A QEMU that goes into the background forks
        twice: the first child leads the second one's session, and waits to be reaped by the QEMU
        that was started.
        """
        leader = vm.info.session
        pids = (vm.info.parent, parent_of(leader, self._procfs) if leader else None)
        older = (self._by_tgid.get(pid) for pid in pids if pid)
        return next((it for it in older if it and it.info.cmdline == vm.info.cmdline), None)

    def _prune(self) -> None:
        """Drop what is gone, whenever the number of VMs has doubled since the last time."""
        if len(self._by_tgid) < self._prune_at:
            return
        for vm in list(self._by_tgid.values()):
            if not self._is_alive(vm):
                self.forget(vm.tgid)
        self._prune_at = max(_FIRST_PRUNE, 2 * len(self._by_tgid))

    def _is_alive(self, vm: _Vm) -> bool:
        return is_alive(vm.tgid, vm.info.start_ticks, self._procfs)
