"""The virtual machines of this host, each with an id of its own.

Knows which processes run a machine, and so can tell apart two machines that were given one id,
recognise a machine's own children, and find the machine that a kernel helper thread works for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kepler_ebpf.model.workloads import VmLabels
from kepler_ebpf.names.processes.procfs import ProcessInfo, find_process, is_alive, parent_of
from kepler_ebpf.names.processes.vms import helper_owner, match_vm, unique_id

_FIRST_PRUNE = 64


@dataclass(frozen=True, slots=True)
class _Vm:
    """A process that runs a machine. ``given_id`` is the id before it was made unique."""

    tgid: int
    info: ProcessInfo
    given_id: str
    labels: VmLabels


class VmIds:
    """Names the machine of a process. Not thread-safe."""

    def __init__(self, procfs: str = "/proc") -> None:
        """Check the life of processes in *procfs*."""
        self._procfs = procfs
        self._by_tgid: dict[int, _Vm] = {}
        self._by_id: dict[str, list[_Vm]] = {}
        self._prune_at = _FIRST_PRUNE

    def of_process(self, tgid: int, info: ProcessInfo) -> VmLabels | None:
        """Return the machine that the process runs, None for any other process.

        Asked again about the same process, the answer changes only with its command line.
        """
        known = self._by_tgid.get(tgid)
        if known is not None:
            if _is_unchanged(known.info, info):
                return known.labels
            self._drop(tgid)
        match = match_vm(info.cmdline, tgid, info.start_ticks, info.exe)
        if match is None:
            return None
        labels = VmLabels(match.vm_id, match.vm_name, match.hypervisor)
        return self._admit(_Vm(tgid, info, match.vm_id, labels)).labels

    def of_helper(self, comm: str) -> VmLabels | None:
        """Return the machine that a kernel thread of this name works for, None for any other."""
        owner = helper_owner(comm)
        found = None if owner is None else find_process(owner, self._procfs)
        if found is None:
            return None
        return self.of_process(*found)

    def __len__(self) -> int:
        """Return how many processes are remembered."""
        return len(self._by_tgid)

    def _admit(self, machine: _Vm) -> _Vm:
        rivals = [m for m in self._by_id.get(machine.given_id, ()) if self._is_alive(m)]
        forebear = self._forebear(machine)
        if forebear is not None:
            machine = replace(machine, labels=forebear.labels)
        elif rivals:
            machine = replace(machine, labels=_made_unique(machine))
        self._by_tgid[machine.tgid] = machine
        self._by_id[machine.given_id] = [*rivals, machine]
        self._prune()
        return machine

    def _forebear(self, machine: _Vm) -> _Vm | None:
        """Return the process that this one continues, when it is no machine of its own.

        A child before its exec continues its parent. A QEMU that goes into the background forks
        twice: the first child leads the second one's session, and waits to be reaped by the QEMU
        that was started.
        """
        leader = machine.info.session
        pids = (machine.info.parent, parent_of(leader, self._procfs) if leader else None)
        older = (self._by_tgid.get(pid) for pid in pids if pid)
        return next((m for m in older if m and m.info.cmdline == machine.info.cmdline), None)

    def _drop(self, tgid: int) -> None:
        machine = self._by_tgid.pop(tgid, None)
        if machine is not None:
            left = [m for m in self._by_id.pop(machine.given_id, ()) if m is not machine]
            if left:
                self._by_id[machine.given_id] = left

    def _prune(self) -> None:
        """Drop what is gone, whenever the number of machines has doubled since the last time."""
        if len(self._by_tgid) < self._prune_at:
            return
        for machine in list(self._by_tgid.values()):
            if not self._is_alive(machine):
                self._drop(machine.tgid)
        self._prune_at = max(_FIRST_PRUNE, 2 * len(self._by_tgid))

    def _is_alive(self, machine: _Vm) -> bool:
        return is_alive(machine.tgid, machine.info.start_ticks, self._procfs)


def _made_unique(machine: _Vm) -> VmLabels:
    suffix = unique_id(machine.tgid, machine.info.start_ticks)
    return replace(machine.labels, vm_id=f"{machine.labels.vm_id}-{suffix}")


def _is_unchanged(before: ProcessInfo, now: ProcessInfo) -> bool:
    return (before.start_ticks, before.cmdline) == (now.start_ticks, now.cmdline)
