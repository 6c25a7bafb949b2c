"""Every CPU's account as the kernel keeps it in shared memory, and its closing by interval.

Holds the rule that makes an interval exact: which CPUs must be interrupted to close it, and what
each CPU's figures are at its own boundary. See ``bpf/kepler.h`` for the words in a slot.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.kernel.layout import CONTROL, CPU_SLOT
from kepler_ebpf.kernel.libbpf import TestRun
from kepler_ebpf.kernel.programs import Programs
from kepler_ebpf.model import Bools, Ints, Records, SocketTime
from kepler_ebpf.topology import Topology

_WORD = 8
_LIVE = ("since_ns", "idle_ns", "busy_ns", "lost_ns", "untracked_ns")
_CLOSED = ("closed_at_ns", "closed_idle_ns", "closed_busy_ns", "closed_lost_ns")
_CLOSED_UNTRACKED = "closed_untracked_ns"

AT, IDLE, BUSY, LOST, UNTRACKED = range(5)
"""Columns of ``Boundary.figures``."""


def _words(*fields: str) -> list[int]:
    """Where *fields* are in a slot, in words."""
    return [int(CPU_SLOT.fields[field][1]) // _WORD for field in fields]  # type: ignore[index]


_LIVE_WORDS = _words(*_LIVE)
_CLOSED_WORDS = _words(*_CLOSED, _CLOSED_UNTRACKED)


@dataclass(frozen=True, slots=True)
class Boundary:
    """Every CPU at the end of an interval.

    ``figures`` (cpus, 5), int64 ns, has for each CPU the instant of its own boundary on the
    monotonic clock, and its idle, busy, lost and untracked time up to then since attaching.
    """

    online: Bools
    figures: Ints

    @property
    def mean_ns(self) -> int:
        """The instant of the boundary: the mean over the CPUs online, microseconds apart."""
        at_ns = self.figures[self.online, AT]
        return int(at_ns.sum()) // max(len(at_ns), 1)


class Cpus:
    """The slots and the control word, shared with the kernel side by memory."""

    def __init__(self, programs: Programs, topology: Topology) -> None:
        self._topology = topology
        count = len(topology.socket_of)
        self._control = shared_records(programs.maps["control"], CONTROL, 1)
        self._slots = shared_records(programs.maps["slots"], CPU_SLOT, count)
        self._words = self._slots.view(np.int64).reshape(count, -1)
        self._epoch = self._control.view(np.uint64)[:1]
        self._rotate = TestRun(programs.programs["rotate"])
        self._online: tuple[int, ...] = ()
        self._online_mask = np.zeros(count, np.bool_)
        self._is_on_socket = np.zeros((topology.sockets, count))

    @property
    def control(self) -> Records:
        """The control record, one element; the kernel side reads and writes it."""
        return self._control

    @property
    def epoch(self) -> int:
        """The set of maps in use is the lowest bit of this."""
        return int(self._epoch[0])

    def close(self) -> None:
        """Let go of the shared memory, which keeps its maps alive; the last figures stay."""
        self._control, self._slots = self._control.copy(), self._slots.copy()
        self._words, self._epoch = self._words.copy(), self._epoch.copy()

    def prepare(self) -> None:
        """Tell the kernel side each CPU's socket; before attaching, and when CPUs appear."""
        sockets = np.array(self._topology.socket_of)
        self._slots["socket"] = sockets
        self._is_on_socket[:] = sockets == np.arange(len(self._is_on_socket))[:, np.newaxis]

    def close_interval(self, *, wake_idle: bool = False) -> Boundary:
        """Move every CPU to the other set of maps; after it the old set is quiet.

        Idle CPUs are left asleep: they charge nobody. *wake_idle* interrupts them as well, which
        the first boundary needs, as a CPU's state is not known before it.
        """
        self._refresh_online()
        # The clock first: a CPU that wakes after the epoch is raised has since_ns > now_ns.
        now_ns = time.monotonic_ns()
        self._epoch += np.uint64(1)
        # This order: idle first and since last, see leave_idle() in bpf/charge.h.
        idle = self._words[:, _LIVE_WORDS[IDLE]].copy()
        live = self._words[:, _LIVE_WORDS]
        # No idle period repeats another's word, so figures between two equal looks are settled.
        settled = self._words[:, _LIVE_WORDS[IDLE]] == idle
        asleep = (idle < 0) & (live[:, AT] <= now_ns) & settled
        online, rotated = self._rotate_cpus(np.bool_(wake_idle) | ~asleep)
        rotated |= self._rotate_cpus(self._woken(asleep, idle))[1]
        live[:, AT] = now_ns
        live[:, IDLE] = np.where(idle < 0, idle + now_ns, idle)
        live[rotated] = self._words[rotated][:, _CLOSED_WORDS]
        return Boundary(online, live)

    def _woken(self, asleep: Bools, idle: Ints) -> Bools:
        """CPUs that left idle without having seen the new epoch, and may still charge to the old.

        There are none where the kernel's atomic add is a full barrier, as on x86; on other
        architectures it need not be.
        """
        moved = self._words[:, _LIVE_WORDS[IDLE]] != idle
        return np.asarray(asleep & moved & (self._slots["epoch"] != self._epoch))

    def between(self, start: Boundary, end: Boundary) -> tuple[SocketTime, int]:
        """CPU time by socket between two boundaries, and the CPU time that passed by the clock.

        Of a CPU that was not online at both, only what it was busy is known to have existed.
        """
        passed = end.figures - start.figures
        unsteady = ~(start.online & end.online)
        if unsteady.any():
            passed[unsteady, IDLE] = 0
            passed[unsteady, AT] = passed[unsteady, BUSY]
        # float64 holds every count of nanoseconds up to 104 days exactly.
        sums = (self._is_on_socket @ passed).astype(np.int64)
        times = SocketTime(
            window_ns=sums[:, BUSY] + sums[:, IDLE],
            busy_ns=sums[:, BUSY],
            idle_ns=sums[:, IDLE],
            lost_ns=sums[:, LOST],
        )
        return times, int(passed[:, AT].sum())

    def busy_ns_by_socket(self, boundary: Boundary) -> Ints:
        """Busy time of each socket since attaching, up to *boundary*; int64 of shape (sockets,)."""
        return (self._is_on_socket @ boundary.figures[:, BUSY]).astype(np.int64)

    def _rotate_cpus(self, wanted: Bools) -> tuple[Bools, Bools]:
        """Interrupt the *wanted* CPUs that are online; return who is online and who was."""
        online, rotated = self._online_mask.copy(), self._online_mask & wanted
        for cpu in np.flatnonzero(rotated).tolist():
            if not self._rotate.on_cpu(cpu):
                online[cpu] = rotated[cpu] = False
        return online, rotated

    def _refresh_online(self) -> None:
        online = self._topology.online()
        if online is not self._online:
            self._online = online
            self._online_mask[:] = False
            self._online_mask[list(online)] = True
            self.prepare()


def shared_records(map_fd: int, dtype: np.dtype[np.void], count: int) -> Records:
    """Map a BPF array into this process as *count* records of *dtype*."""
    pages = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(map_fd, pages), dtype, count)
