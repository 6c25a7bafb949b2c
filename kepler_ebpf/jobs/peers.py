"""The process at the other end of a socket, and the marks of its threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.host.unix_socket import Peer
from kepler_ebpf.kernel.jobs import Jobs, Mark
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

MAX_THREADS = 256
"""Threads of a process that are marked; one with more can be measured without its children."""

START_FIELD = 19
"""In /proc/PID/stat behind the name: the start of a task in clock ticks since boot."""

MAX_JOB = (1 << 24) - 1


class Process(NamedTuple):
    """A process that cannot be confused with a later one of the same pid."""

    pid: int
    start_ticks: int


def identify(peer: Peer, procfs: str) -> Process:
    """Return the process that has connected. Raises SetupError where it cannot be known.

    It may have ended since. Its pid is then at most that of another process of the same user.
    """
    try:
        status = Path(procfs, str(peer.pid), "status").read_text("utf-8", "replace")
        uids = status.partition("\nUid:")[2].partition("\n")[0].split()
        if str(peer.uid) in uids:
            return Process(peer.pid, _start(procfs, str(peer.pid)))
    except (OSError, IndexError, ValueError):
        pass
    remedy = (
        "connect from the process that is measured, in a PID namespace that is below the host's"
    )
    raise SetupError("the process that has connected is not known here", remedy)


class Marker:
    """Marks the threads of processes, so that what they start is known."""

    def __init__(self, jobs: Jobs, procfs: str) -> None:
        self._jobs = jobs
        self._procfs = procfs
        self._last = 0

    def mark(self, process: Process) -> Iterator[tuple[int, int, int]]:
        """Give each thread of *process* a new id; yield it with that before, 0 for none, and this.

        Raises KeplerError where they are too many, or the process has ended.
        """
        for thread in self._threads(process):
            self._last = self._last % MAX_JOB + 1
            before = self._jobs.id_of(thread)
            self._jobs.mark(thread, self._last)
            if self._is_of(process, thread):
                yield thread, before, self._last
            else:  # It ended, and another may have its number.
                self._jobs.unmark(thread)

    def unmark(self, process: Process, is_used: Callable[[int], bool]) -> None:
        """Take away the marks of its threads but those whose id *is_used* by a job that goes on.

        What they start from now on is in no job.
        """
        with suppress(OSError, SetupError, ConfigError):
            for each in self._threads(process):
                if not is_used(self._jobs.id_of(each)):
                    self._jobs.unmark(each)

    def live(self) -> set[int]:
        """Return the ids of tasks that were not freed."""
        return self._jobs.ids()

    def clear(self) -> None:
        """Take all marks away."""
        self._jobs.clear()

    @property
    def lost(self) -> int:
        """Children without a mark, since start."""
        return self._jobs.marks_lost

    def running(self, ids: set[int], starter: int | None) -> int:
        """Return how many tasks of jobs beside their *starter* have not ended, up to 256."""
        found = islice(self._jobs.marks(ids), MAX_THREADS)
        return sum(self._lives(mark) for mark in found if mark.pid != starter)

    def require_thread(self, process: Process, thread: int) -> None:
        """Raise SetupError where *process* has no such *thread*, by the host's numbers."""
        status = Path(self._procfs, str(process.pid), "status").read_text("utf-8", "replace")
        if len(status.partition("\nNSpid:")[2].partition("\n")[0].split()) > 1:
            problem = "threads cannot be known in a PID namespace of its own"
            raise SetupError(problem, "measure the whole process, or run it in the host's")
        if not self._is_of(process, thread):
            problem = f"process {process.pid} has no thread {thread}"
            raise SetupError(problem, "name the calling thread")

    def _threads(self, process: Process) -> list[int]:
        folder = f"{self._procfs}/{process.pid}/task"
        try:
            with os.scandir(folder) as entries:
                threads = [int(each.name) for each in islice(entries, MAX_THREADS + 1)]
        except OSError as error:
            raise SetupError(f"process {process.pid} has ended", "") from error
        if len(threads) > MAX_THREADS:
            problem = f"process {process.pid} has more than {MAX_THREADS} threads"
            raise ConfigError(problem, "measure it without children")
        return threads

    def _lives(self, mark: Mark) -> bool:
        ticks = start_ticks(mark.start_ns) if mark.start_ns else None
        return is_alive(mark.pid, ticks, self._procfs)

    def _is_of(self, process: Process, thread: int) -> bool:
        with suppress(OSError, ValueError, IndexError):
            folder = f"{self._procfs}/{process.pid}"
            return os.access(f"{folder}/task/{thread}", os.F_OK) and (
                _start(self._procfs, str(process.pid)) == process.start_ticks
            )
        return False


def _start(procfs: str, pid: str) -> int:
    stat = Path(procfs, pid, "stat").read_text("utf-8", "replace")
    return int(stat.rpartition(")")[2].split()[START_FIELD])
