"""Jobs: a task that is measured together with all that it starts, wherever that goes.

The kernel side marks what a marked task starts when it is made; see ``bpf/job.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from ctypes import byref, c_uint32
from typing import NamedTuple

import numpy as np

from kepler_ebpf.errors import ReadError
from kepler_ebpf.kernel.layout import JOB_MARK, JOB_SHIFT
from kepler_ebpf.kernel.libbpf import TestRun, describe_errno, last_errno, library
from kepler_ebpf.kernel.programs import Programs
from kepler_ebpf.model.arrays import Bools, Records


class Mark(NamedTuple):
    """A task of the last job: its pid, and its start on the boot-time clock (0: whoever has it)."""

    pid: int
    start_ns: int


class Jobs:
    """The marks of tasks of the last job, for programs that were loaded with jobs."""

    def __init__(self, programs: Programs, control: Callable[[], Records]) -> None:
        """*control* returns the shared control record, of dtype ``layout.CONTROL``."""
        self._fd = programs.maps["jobs"]
        self._arm = TestRun(programs.programs["arm"])
        self._control = control

    def arm(self) -> None:
        """Begin a job: the next task that the calling thread starts, and all that comes of it.

        That task counts from its exec on, see ``pre_exec_ns``.
        """
        self._arm.here()

    def mark(self, pid: int, job: int = 1) -> None:
        """Make the thread *pid* part of a *job*, of 24 bits, by default the first.

        Its record of the running interval has no job yet. Raises ReadError where there is no room.
        """
        self._control()["jobs"] = 1
        mark = np.zeros(1, JOB_MARK)
        mark["job"] = job
        address = mark.ctypes.data
        if library().bpf_map_update_elem(self._fd, byref(c_uint32(pid)), address, 0):
            raise ReadError(f"cannot mark task {pid}: {describe_errno(last_errno())}")

    def unmark(self, pid: int) -> None:
        """Take the thread *pid* out of its job; what it has started stays in it."""
        library().bpf_map_delete_elem(self._fd, byref(c_uint32(pid)))

    def clear(self) -> None:
        """End all jobs. From here on a fork costs nothing."""
        self._control()["jobs"] = 0
        key, calls = c_uint32(), library()
        while calls.bpf_map_get_next_key(self._fd, None, byref(key)) == 0:
            calls.bpf_map_delete_elem(self._fd, byref(key))

    def marks(self, jobs: Container[int] | None = None) -> Iterator[Mark]:
        """Yield the tasks of these *jobs*, or of the last, that were not freed; some have ended."""
        wanted = (self._job,) if jobs is None else jobs
        return (Mark(pid, start_ns) for pid, job, start_ns in self._all() if job in wanted)

    def ids(self) -> set[int]:
        """Return the jobs of which a task was not freed."""
        return {job for _, job, _ in self._all()}

    def id_of(self, pid: int) -> int:
        """Return the job of the thread *pid*, 0 for none."""
        mark = np.zeros(1, JOB_MARK)
        library().bpf_map_lookup_elem(self._fd, byref(c_uint32(pid)), mark.ctypes.data)
        return int(mark["job"][0])

    def _all(self) -> Iterator[tuple[int, int, int]]:
        """Yield pid, job and start of each task with a mark, once.

        Behind a mark that was dropped meanwhile the kernel begins anew.
        """
        key, following, mark = c_uint32(), c_uint32(), np.zeros(1, JOB_MARK)
        calls, last, seen = library(), None, set[int]()
        while calls.bpf_map_get_next_key(self._fd, last, byref(following)) == 0:
            key.value, last = following.value, byref(key)
            is_new = key.value not in seen
            seen.add(key.value)
            if is_new and calls.bpf_map_lookup_elem(self._fd, last, mark.ctypes.data) == 0:
                yield key.value, int(mark["job"][0]), int(mark["start_ns"][0])

    def select(self, records: Records) -> Bools:
        """Return which of *records* (N,), of dtype ``layout.TASK``, belong to the job."""
        is_marked: Bools = records["flags"] >> np.uint32(JOB_SHIFT) == self._job
        return is_marked

    @property
    def tasks(self) -> int:
        """How many tasks were started in jobs, since loading."""
        return self._word("job_tasks")

    @property
    def marks_lost(self) -> int:
        """How many of them had no room for a mark: they and what they start are in no job."""
        return self._word("marks_lost")

    @property
    def pre_exec_ns(self) -> int:
        """CPU time of the job's first task before its exec; known when that has ended."""
        return self._word("pre_exec_ns")

    @property
    def _job(self) -> int:
        return self._word("jobs")

    def _word(self, name: str) -> int:
        return int(self._control()[name][0])
