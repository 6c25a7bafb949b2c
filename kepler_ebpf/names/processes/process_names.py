"""The executable of a process and the VM that it runs, from the kernel's exec events and /proc."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from kepler_ebpf.model.names import ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.names.processes.procfs import (
    ProcessInfo,
    find_process,
    read_cmdline,
    read_process,
)
from kepler_ebpf.names.processes.vm_ids import ProcessId, VmIds
from kepler_ebpf.names.processes.vms import Arguments, helper_owner, is_hypervisor
from kepler_ebpf.names.reader import Reader

MAX_EVENTS = 20_000
"""Exec events that are kept of one batch; those after them are dropped."""

MAX_UNREAD = 20_000
"""Processes that wait until they are read; beyond it the oldest are dropped."""

_Programs = tuple[str, ...]
"""The path of the executable, and argv[0] where there is one."""


class ProcessNames:
    """Names processes. /proc never changes the executable that an exec event gave.

    Only of what may be a hypervisor the command line is read, by ``reader``.
    """

    def __init__(self, procfs: str, clock: Callable[[], float]) -> None:
        """Read what no event has from *procfs*."""
        self._procfs = procfs
        self._clock = clock
        self.reader = Reader("a command line")
        self._vms = VmIds(procfs)
        self._execs: dict[tuple[int, int, int], _Programs] = {}
        self._previous = self._execs
        self._budget_s = 0.0
        self._unread: OrderedDict[ProcessId, tuple[ProcessIdentity, _Programs]] = OrderedDict()
        self._better: dict[ProcessId, ProcessName] = {}

    def begin_batch(self, budget_s: float) -> None:
        """Let the next names take *budget_s* of reading; forget execs before the last batch."""
        self._budget_s = budget_s
        self._vms.prune()
        if self._execs or self._previous:
            self._previous, self._execs = self._execs, {}

    def learn(self, events: Iterable[ExecEvent]) -> None:
        """Keep *events* for this batch and the next."""
        execs = self._execs
        for tgid, start_ns, exec_id, exe, arguments in events:
            if len(execs) < MAX_EVENTS:
                execs[tgid, start_ns, exec_id] = programs = exe, *arguments[:1]
                if is_hypervisor(*programs):
                    # It may have been named in the middle of its exec, without its arguments.
                    self._postpone(ProcessIdentity(tgid, start_ns, exec_id, ""), programs)

    def name(self, identity: ProcessIdentity) -> ProcessName:
        """Name a process by its exec event; where that is not all, by /proc, perhaps later."""
        key = identity[:2]
        # A name found before this question may be that of another program.
        self._better.pop(key, None)
        self._unread.pop(key, None)
        self.reader.cancel(key)
        exec_key = identity[:3]
        programs = self._execs.get(exec_key) or self._previous.get(exec_key, ("",))
        name, runs_no_vm = ProcessName(programs[0]), programs[0] and not is_hypervisor(*programs)
        if runs_no_vm:
            self._vms.forget(identity.tgid)
        if runs_no_vm or not identity.is_alive:
            return name
        if self._budget_s > 0.0:
            began_s = self._clock()
            name = self._read(identity, programs)
            self._budget_s -= self._clock() - began_s
        else:
            self._postpone(identity, programs)
        return name

    @property
    def has_unread(self) -> bool:
        """Whether there is a process for ``read_next``."""
        return bool(self._unread)

    def read_next(self) -> None:
        """Name the newest process that was not read for lack of time."""
        key, (identity, programs) = self._unread.popitem()
        name = self._read(identity, programs)
        if name != ProcessName(programs[0]):
            self._better[key] = name

    def take_better(self) -> dict[ProcessId, ProcessName]:
        """Return the names by (pid, start) that were found since the last call."""
        better, self._better = {**self._vms.take_renamed(), **self._better}, {}
        return better

    def _postpone(self, identity: ProcessIdentity, programs: _Programs) -> None:
        self._unread[identity[:2]] = identity, programs
        if len(self._unread) > MAX_UNREAD:
            self._unread.popitem(last=False)

    def _read(self, identity: ProcessIdentity, programs: _Programs) -> ProcessName:
        """Name a process by what /proc has of it at once; its command line is read later."""
        info = read_process(identity.tgid, identity.start_ns, self._procfs)
        if info is None:
            return ProcessName(programs[0])
        if info.is_kernel_thread:
            return self._name_helper(identity)
        name, key = ProcessName(programs[0] or info.exe), identity[:2]
        if is_hypervisor(*programs, info.exe, identity.comm):
            self._request(key, key, info, name)
        else:
            self._vms.forget(identity.tgid)
        return name

    def _name_helper(self, identity: ProcessIdentity) -> ProcessName:
        """Name a kernel thread: the VM of a helper is that of the process it works for."""
        owner = helper_owner(identity.comm)
        found = None if owner is None else find_process(owner, self._procfs)
        if found is None:
            return ProcessName()
        tgid, info = found
        vm = self._vms.known(tgid, info.start_ticks)
        if vm is None:
            self._request(identity[:2], (tgid, 0), info, ProcessName())
        return ProcessName(vm=vm)

    def _request(
        self, key: ProcessId, process_id: ProcessId, info: ProcessInfo, name: ProcessName
    ) -> None:
        """Give the process *key* the VM that the process *process_id* runs, once that is read."""

        def use(cmdline: Arguments) -> None:
            vm = self._vms.of_process(process_id, info, cmdline)
            if vm is not None:
                self._better[key] = ProcessName(name.exe, vm)

        read = partial(read_cmdline, process_id[0], info.start_ticks, self._procfs)
        self.reader.request(key, read, use)
