"""The VMs of this host, each with an id of its own.

Remembers which processes run a VM. So two VMs that were given one id get two, the children of a
VM's process are the same VM, and the VM that a kernel helper thread works for is found. An id that
two processes claim is that of the one whose executable is a hypervisor's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from kepler_ebpf.model.names import ProcessName
from kepler_ebpf.model.workloads import VmLabels
from kepler_ebpf.names.processes.procfs import ProcessInfo, is_alive, parent_of
from kepler_ebpf.names.processes.vms import Arguments, is_hypervisor, match_vm, unique_id

MAX_VMS = 4_096
"""Processes that are remembered; beyond it one whose executable is no hypervisor's makes room."""

LOOKS = 4
"""Processes that are looked at, whether they are gone, in each batch and for each new one."""

ProcessId = tuple[int, int]
"""The tgid, and the start in ns since boot, 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class _Vm:
    """A process that runs a VM. ``given_id`` is the id before it was made unique.

    Of the command line, which may be long, there is only a hash. ``is_proven`` is whether the
    executable is a hypervisor's, and not only the name that the process was started under.
    """

    process_id: ProcessId
    info: ProcessInfo
    line_hash: int
    given_id: str
    labels: VmLabels
    is_proven: bool

    @property
    def unique_id(self) -> str:
        """The given id made unique."""
        return f"{self.given_id}-{unique_id(self.process_id[0], self.info.start_ticks)}"


class VmIds:
    """Names the VM of a process. Not thread-safe."""

    def __init__(self, procfs: str = "/proc") -> None:
        """Check the life of processes in *procfs*."""
        self._procfs = procfs
        self._by_tgid: OrderedDict[int, _Vm] = OrderedDict()
        self._by_id: dict[str, list[_Vm]] = {}
        self._renamed: dict[ProcessId, ProcessName] = {}

    def of_process(
        self, process_id: ProcessId, info: ProcessInfo, cmdline: Arguments
    ) -> VmLabels | None:
        """Return the VM that a process with that command line runs, None for any other process.

        The VM of a process changes only with its command line.
        """
        tgid, line_hash = process_id[0], hash(cmdline)
        known = self._by_tgid.get(tgid)
        if known is not None:
            if (known.info.start_ticks, known.line_hash) == (info.start_ticks, line_hash):
                return known.labels
            self.forget(tgid)
        labels = match_vm(cmdline, tgid, info.start_ticks, info.exe)
        if labels is None:
            return None
        is_proven = is_hypervisor(info.exe)
        return self._admit(_Vm(process_id, info, line_hash, labels.vm_id, labels, is_proven))

    def known(self, tgid: int, ticks: int) -> VmLabels | None:
        """Return the VM that this process was found to run."""
        vm = self._by_tgid.get(tgid)
        return vm.labels if vm and vm.info.start_ticks == ticks else None

    def take_renamed(self) -> dict[ProcessId, ProcessName]:
        """Return the names of processes that have lost their id to another since the last call."""
        renamed, self._renamed = self._renamed, {}
        return renamed

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

    def prune(self) -> None:
        """Forget those that are gone of the next few processes."""
        for _ in range(min(LOOKS, len(self._by_tgid))):
            tgid, vm = next(iter(self._by_tgid.items()))
            self._by_tgid.move_to_end(tgid)
            if not self._is_alive(vm):
                self.forget(tgid)

    def _admit(self, vm: _Vm) -> VmLabels | None:
        if not self._make_room(vm):
            return None
        others = [other for other in self._by_id.get(vm.given_id, ()) if self._is_alive(other)]
        parent = self._parent(vm)
        if parent is not None:
            vm = replace(vm, labels=parent.labels)
        elif vm.is_proven and not any(other.is_proven for other in others):
            others = [self._rename(other) for other in others]
        elif others:
            vm = replace(vm, labels=replace(vm.labels, vm_id=vm.unique_id))
        self._by_tgid[vm.process_id[0]] = vm
        self._by_id[vm.given_id] = [*others, vm]
        return vm.labels

    def _rename(self, vm: _Vm) -> _Vm:
        """Give a process an id of its own."""
        vm = replace(vm, labels=replace(vm.labels, vm_id=vm.unique_id))
        self._by_tgid[vm.process_id[0]] = vm
        self._renamed[vm.process_id] = ProcessName(vm.info.exe, vm.labels)
        return vm

    def _parent(self, vm: _Vm) -> _Vm | None:
        """Return the parent process that this one continues, when it is no VM of its own.

        A child before its exec continues its parent. A QEMU that goes into the background forks
        twice: the first child leads the second one's session, and waits to be reaped by the QEMU
        that was started.
        """
        leader = vm.info.session
        pids = (vm.info.parent, parent_of(leader, self._procfs) if leader else None)
        older = (self._by_tgid.get(pid) for pid in pids if pid)
        return next((it for it in older if it and it.line_hash == vm.line_hash), None)

    def _make_room(self, vm: _Vm) -> bool:
        """Make room for a new one; False where all that are remembered go before it."""
        self.prune()
        if len(self._by_tgid) < MAX_VMS:
            return True
        unproven = (tgid for tgid, other in self._by_tgid.items() if not other.is_proven)
        drop = next(unproven, None) if vm.is_proven else None
        if drop is not None:
            self.forget(drop)
        return drop is not None

    def _is_alive(self, vm: _Vm) -> bool:
        return is_alive(vm.process_id[0], vm.info.start_ticks, self._procfs)
