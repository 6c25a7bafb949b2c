"""Every CPU's account as the kernel keeps it in shared memory, and its closing by interval.

Holds the rule that makes an interval exact: which CPUs must be interrupted to close it, and what
each CPU's figures are at its own boundary. See ``bpf/kepler.h`` for the words in a slot.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kepler_ebpf.kernel.layout import CONTROL, CPU_SLOT
from kepler_ebpf.kernel.libbpf import TestRun
from kepler_ebpf.model import SocketTime

if TYPE_CHECKING:
    from kepler_ebpf.kernel.programs import Programs
    from kepler_ebpf.model import Bools, Ints, Records
    from kepler_ebpf.topology import Topology


@dataclass(frozen=True, slots=True)
class Boundary:
    """Every CPU at the end of an interval; arrays (cpus,), int64, cumulative since attaching.

    ``at_ns`` is each CPU's own boundary on the monotonic clock.
    """

    online: Bools
    at_ns: Ints
    busy_ns: Ints
    idle_ns: Ints
    lost_ns: Ints
    untracked_ns: Ints

    @property
    def mean_ns(self) -> int:
        """The instant of the boundary: the mean over the CPUs online, microseconds apart."""
        return int(self.at_ns[self.online].mean())


class Cpus:
    """The slots and the control word, shared with the kernel side by memory."""

    def __init__(self, programs: Programs, topology: Topology) -> None:
        self._topology = topology
        self._count = len(topology.socket_of)
        self._control = shared_records(programs.maps["control"], CONTROL, 1)
        self._slots = shared_records(programs.maps["slots"], CPU_SLOT, self._count)
        self._rotate = TestRun(programs.programs["rotate"])
        self._online: tuple[int, ...] = ()
        self._online_mask = np.zeros(self._count, np.bool_)
        self._socket_of = np.zeros(self._count, np.int64)

    @property
    def control(self) -> Records:
        """The control record, one element; the kernel side reads and writes it."""
        return self._control

    @property
    def epoch(self) -> int:
        """The set of maps in use is the lowest bit of this."""
        return int(self._control["epoch"][0])

    def prepare(self) -> None:
        """Tell the kernel side each CPU's socket; before attaching, and when CPUs appear."""
        self._socket_of[:] = self._topology.socket_of
        self._slots["socket"] = self._socket_of

    def close_interval(self, *, wake_idle: bool = False) -> Boundary:
        """Move every CPU to the other set of maps; after it the old set is quiet.

        Idle CPUs are left asleep: they charge nobody. *wake_idle* interrupts them as well, which
        the first boundary needs, as a CPU's state is not known before it.
        """
        self._refresh_online()
        # The clock first: a CPU that wakes after the epoch is raised has since_ns > now_ns.
        now_ns = time.monotonic_ns()
        self._control["epoch"] += 1
        # This order: idle first and since last, see leave_idle() in bpf/charge.h.
        raw_idle = self._slots["idle_ns"].copy()
        live = self._slots.copy()
        asleep = (raw_idle < 0) & (live["since_ns"] <= now_ns)
        online = self._online_mask.copy()
        rotated = online.copy() if wake_idle else online & ~asleep
        for cpu in np.flatnonzero(rotated):
            if not self._rotate.on_cpu(int(cpu)):
                online[cpu] = rotated[cpu] = False
        closed = self._slots.copy()

        def figure(at_rotation: Ints, at_rest: Ints) -> Ints:
            return np.where(rotated, at_rotation, at_rest).astype(np.int64)

        return Boundary(
            online=online,
            at_ns=figure(closed["closed_at_ns"], np.int64(now_ns)),
            busy_ns=figure(closed["closed_busy_ns"], live["busy_ns"]),
            idle_ns=figure(
                closed["closed_idle_ns"], np.where(raw_idle < 0, raw_idle + now_ns, raw_idle)
            ),
            lost_ns=figure(closed["closed_lost_ns"], live["lost_ns"]),
            untracked_ns=figure(closed["closed_untracked_ns"], live["untracked_ns"]),
        )

    def between(self, start: Boundary, end: Boundary) -> SocketTime:
        """CPU time by socket between two boundaries.

        Of a CPU that was not online at both, only what it was busy is known to have existed.
        """
        steady = start.online & end.online
        busy = end.busy_ns - start.busy_ns
        idle = np.where(steady, end.idle_ns - start.idle_ns, 0)
        lost = end.lost_ns - start.lost_ns
        return SocketTime(
            window_ns=self._by_socket(busy + idle),
            busy_ns=self._by_socket(busy),
            idle_ns=self._by_socket(idle),
            lost_ns=self._by_socket(lost),
        )

    @staticmethod
    def wall_ns(start: Boundary, end: Boundary) -> int:
        """CPU time that passed between two boundaries by the clock, whatever was accounted."""
        steady = start.online & end.online
        busy = end.busy_ns - start.busy_ns
        return int(np.where(steady, end.at_ns - start.at_ns, busy).sum())

    def busy_ns_by_socket(self) -> tuple[int, Ints]:
        """The monotonic clock, and the cumulative busy time of each socket at that instant."""
        slots, now_ns = self._slots.copy(), time.monotonic_ns()
        running_ns = np.maximum(now_ns - slots["since_ns"].astype(np.int64), 0)
        running_ns[(slots["idle_ns"] < 0) | ~self._online_mask] = 0
        return now_ns, self._by_socket(slots["busy_ns"].astype(np.int64) + running_ns)

    def _by_socket(self, per_cpu: Ints) -> Ints:
        # float64 holds every count of nanoseconds up to 104 days exactly.
        sums = np.bincount(self._socket_of, per_cpu, self._topology.sockets)
        return sums.astype(np.int64)

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
