"""The executable of a process and the VM that it runs, from the kernel's exec events and /proc."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from kepler_ebpf.model.names import ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.names.processes.procfs import read_process
from kepler_ebpf.names.processes.vm_ids import VmIds
from kepler_ebpf.names.processes.vms import is_hypervisor

MAX_EVENTS = 20_000
"""Exec events that are kept of one batch; those after them are dropped."""

MAX_UNREAD = 20_000
"""Processes that wait until they are read; beyond it the oldest are dropped."""

_Programs = tuple[str, ...]
"""The path of the executable, and argv[0] where there is one."""

_ProcessId = tuple[int, int]
"""The tgid and the start."""


class ProcessNames:
    """Names processes. /proc never changes the executable that an exec event gave."""

    def __init__(self, procfs: str, clock: Callable[[], float]) -> None:
        """Read what no event has from *procfs*."""
        self._procfs = procfs
        self._clock = clock
        self._vms = VmIds(procfs)
        self._execs: dict[tuple[int, int, int], _Programs] = {}
        self._previous = self._execs
        self._budget_s = 0.0
        self._unread: OrderedDict[_ProcessId, tuple[ProcessIdentity, ProcessName]] = OrderedDict()
        self._better: dict[_ProcessId, ProcessName] = {}

    def begin_batch(self, budget_s: float) -> None:
        """Let the next names take *budget_s* of reading; forget execs before the last batch."""
        self._budget_s = budget_s
        if self._execs or self._previous:
            self._previous, self._execs = self._execs, {}

    def learn(self, events: Iterable[ExecEvent]) -> None:
        """Keep *events* for this batch and the next."""
        execs = self._execs
        for tgid, start_ns, exec_id, exe, arguments in events:
            if len(execs) < MAX_EVENTS:
                execs[tgid, start_ns, exec_id] = exe, *arguments[:1]

    def name(self, identity: ProcessIdentity) -> ProcessName:
        """Name a process by its exec event; where that is not all, by /proc, perhaps later."""
        key = identity[:2]
        # A name found before this question may be that of another program.
        self._better.pop(key, None)
        self._unread.pop(key, None)
        exec_key = identity[:3]
        programs = self._execs.get(exec_key) or self._previous.get(exec_key, ("",))
        name, runs_no_vm = ProcessName(programs[0]), programs[0] and not is_hypervisor(*programs)
        if runs_no_vm:
            self._vms.forget(identity.tgid)
        if runs_no_vm or not identity.is_alive:
            return name
        if self._budget_s > 0.0:
            began_s = self._clock()
            name = self._read(identity, name)
            self._budget_s -= self._clock() - began_s
        else:
            self._unread[key] = identity, name
            if len(self._unread) > MAX_UNREAD:
                self._unread.popitem(last=False)
        return name

    @property
    def has_unread(self) -> bool:
        """Whether there is a process for ``read_next``."""
        return bool(self._unread)

    def read_next(self) -> None:
        """Name the newest process that was not read for lack of time."""
        key, (identity, given) = self._unread.popitem()
        name = self._read(identity, given)
        if name != given:
            self._better[key] = name

    def take_better(self) -> dict[tuple[int, int], ProcessName]:
        """Return the names by (pid, start) that were found since the last call."""
        better, self._better = self._better, {}
        return better

    def _read(self, identity: ProcessIdentity, given: ProcessName) -> ProcessName:
        """Name a process by its files in /proc; the VM of a helper thread is that it works for."""
        info = read_process(identity.tgid, identity.start_ns, self._procfs)
        if info is None:
            return given
        if info.is_kernel_thread:
            return ProcessName(vm=self._vms.of_helper(identity.comm))
        return ProcessName(given.exe or info.exe, self._vms.of_process(identity.tgid, info))
