"""What a loader hands over: descriptors of the maps and programs of ``bpf/kepler.bpf.c``.

Everything after loading goes through these descriptors and is the same for both loaders.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.kernel.layout import NO_SUBSYS
from kepler_ebpf.kernel.libbpf import describe_errno, last_errno, library, map_entries

MAPS = (
    "control",
    "slots",
    "tasks_0",
    "tasks_1",
    "cgroups_0",
    "cgroups_1",
    "cgroup_events",
    "cgroup_notifier",
    "execs",
    "ends",
    "jobs",
)
HOOKS = {
    "on_switch": "sched_switch",
    "on_cgroup_mkdir": "cgroup_mkdir",
    "on_cgroup_rmdir": "cgroup_rmdir",
    "on_cgroup_attach_task": "cgroup_attach_task",
    "on_exec": "sched_process_exec",
}
"""Programs that are attached, and the tracepoint of each."""

ON_DEMAND = ("rotate", "read_self")
"""Programs that user space runs itself."""

JOB_HOOKS = {
    "on_fork": "task_newtask",
    "on_job_exec": "sched_process_exec",
    "on_free": "sched_process_free",
}
JOB_ON_DEMAND = ("arm",)
"""The same, loaded only where jobs are measured."""

ON_TIMER = ("on_sample",)
SAMPLE_MAPS = ("samples",)
"""Loaded only where tasks are sampled."""

OPTIONAL = (*JOB_HOOKS, *JOB_ON_DEMAND, *ON_TIMER)
OPTIONAL_MAPS = (*SAMPLE_MAPS, "sample_scratch")
"""Not made where no program that is loaded uses them."""

JOB_ENTRIES = 1 << 16

CGROUP_ENTRIES = 4096

_EXECS_BYTES_PER_CPU = 1 << 18
_MAX_EXECS_BYTES = 1 << 23
_END_BYTES = 32
"""Of one record in the ring of ended processes."""

RIGHTS = "run as root, or with CAP_BPF and CAP_PERFMON"
"""The remedy where the kernel refuses for lack of rights."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What is fixed at load.

    ``v1_subsys`` is the index of the v1 controller, if any. ``with_jobs`` adds what marks the
    tasks of jobs, see ``jobs``. A ring of ``samples_bytes``, a power of two, adds what samples
    tasks, see ``samples``.
    """

    cpus: int
    task_entries: int
    v1_subsys: int | None = None
    with_jobs: bool = False
    samples_bytes: int = 0

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs to load."""
        jobs = (*JOB_HOOKS, *JOB_ON_DEMAND) if self.with_jobs else ()
        return (*HOOKS, *ON_DEMAND, *jobs, *(ON_TIMER if self.samples_bytes else ()))

    @property
    def maps(self) -> tuple[str, ...]:
        """The maps that user space reads or writes."""
        return (*MAPS, *(SAMPLE_MAPS if self.samples_bytes else ()))

    @property
    def subsys_word(self) -> int:
        """``v1_subsys`` as the programs have it."""
        return NO_SUBSYS if self.v1_subsys is None else self.v1_subsys

    @property
    def job_entries(self) -> int:
        """Marks there is room for: one for each living task of the jobs."""
        return JOB_ENTRIES if self.with_jobs else 1

    @property
    def execs_bytes(self) -> int:
        """Size of the ring of execs, a power of two: what all CPUs can exec in a second or two."""
        wanted = min(self.cpus * _EXECS_BYTES_PER_CPU, _MAX_EXECS_BYTES)
        return 1 << (wanted - 1).bit_length()

    @property
    def ends_bytes(self) -> int:
        """Size of the ring of ended processes, a power of two: as many as the task map has."""
        return max(1 << (self.task_entries * _END_BYTES - 1).bit_length(), mmap.PAGESIZE)


@dataclass(slots=True)
class Programs:
    """Loaded programs; ``by_type_info`` names those that find their tracepoint by themselves."""

    loader: str
    maps: dict[str, int]
    programs: dict[str, int]
    by_type_info: frozenset[str]
    unload: Callable[[], None]
    _links: list[int] = field(default_factory=list)

    def attach(self) -> None:
        """Attach every hook, or none."""
        try:
            for name, tracepoint in (HOOKS | JOB_HOOKS).items():
                if name in self.programs:
                    self._links.append(self._attach(name, tracepoint))
        except SetupError:
            self.detach()
            raise

    def detach(self) -> None:
        """Detach every hook; the maps stay readable."""
        while self._links:
            os.close(self._links.pop())

    def need_rights(self) -> bool:
        """Return whether the kernel requires CAP_BPF of who uses the maps, as before Linux 5.19.

        Distributions have the change in older kernels too, so a thread without rights tries.
        """
        used: list[int] = []

        def use() -> None:
            give_up()
            with suppress(ReadError):
                used.append(map_entries(self.maps["control"]))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        return not used

    def close(self) -> None:
        """Detach and free everything held in the kernel; a second call does nothing."""
        self.detach()
        unload, self.unload = self.unload, lambda: None
        unload()

    def _attach(self, name: str, tracepoint: str) -> int:
        target = None if name in self.by_type_info else tracepoint.encode()
        link: int = library().bpf_raw_tracepoint_open(target, self.programs[name])
        if link < 0:
            why = describe_errno(last_errno())
            raise SetupError(f"cannot attach to tracepoint {tracepoint} ({why})", RIGHTS)
        return link


def bpf_directory() -> Path:
    """Where the C sources and the object are: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "bpf"
    return installed if installed.is_dir() else package.parent / "bpf"
