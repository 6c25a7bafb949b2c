"""The executable of a process and the VM that it runs, from the kernel's exec events and /proc."""

from __future__ import annotations

from collections.abc import Iterable

from kepler_ebpf.model.names import ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.names.processes.procfs import read_process
from kepler_ebpf.names.processes.vm_ids import VmIds
from kepler_ebpf.names.processes.vms import is_hypervisor

MAX_EVENTS = 20_000
"""Exec events that are kept of one batch; those after them are dropped."""

_Exec = tuple[str, bool]
"""The executable, and whether it or argv[0] looks like a hypervisor."""


class ProcessNames:
    """Names processes. /proc never changes the executable that an exec event gave."""

    def __init__(self, procfs: str = "/proc") -> None:
        """Read what no event has from *procfs*."""
        self._procfs = procfs
        self._vms = VmIds(procfs)
        self._execs: dict[tuple[int, int, int], _Exec] = {}
        self._previous = self._execs

    def learn(self, events: Iterable[ExecEvent]) -> None:
        """Keep *events* for this batch and the next."""
        execs = self._execs
        for tgid, start_ns, exec_id, exe, arguments in events:
            if len(execs) < MAX_EVENTS:
                execs[tgid, start_ns, exec_id] = exe, is_hypervisor(exe, *arguments[:1])

    def begin_batch(self) -> None:
        """Forget the execs of the batch before the last."""
        if self._execs or self._previous:
            self._previous, self._execs = self._execs, {}

    def by_event(self, identity: ProcessIdentity) -> tuple[ProcessName, bool]:
        """Name a process without reading anything; the flag is False where /proc may have more."""
        key = identity[:3]
        exe, may_run_vm = self._execs.get(key) or self._previous.get(key, ("", True))
        is_all = not identity.is_alive or (bool(exe) and not may_run_vm)
        if exe and not may_run_vm:
            self._vms.forget(identity.tgid)
        return ProcessName(exe), is_all

    def read(self, identity: ProcessIdentity, exe: str) -> ProcessName:
        """Name a process by its files in /proc; *exe* is the executable where that is known.

        A kernel thread that works for a VM belongs to that VM.
        """
        info = read_process(identity.tgid, identity.start_ns, self._procfs)
        if info is None:
            return ProcessName(exe)
        if info.is_kernel_thread:
            return ProcessName(vm=self._vms.of_helper(identity.comm))
        return ProcessName(exe or info.exe, self._vms.of_process(identity.tgid, info))
