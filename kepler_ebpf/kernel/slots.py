"""The CPU slots that the kernel side shares with this process, and their closing by interval.

Holds the rule that makes an interval exact: which CPUs must be interrupted to close it, and what
the figures of each CPU are at its own boundary. See ``bpf/kepler.h`` for the words of a slot.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel.layout import CONTROL, CPU_SLOT
from kepler_ebpf.kernel.libbpf import TestRun
from kepler_ebpf.kernel.programs import Programs
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.usage import SocketTime

SLOT_WORDS = CPU_SLOT.itemsize // 8


def _words(prefix: str = "") -> tuple[int, ...]:
    """Return the word numbers of a CPU's figures in its slot, in the order of ``Figures``."""
    names = ("at_ns" if prefix else "since_ns", "idle_ns", "busy_ns", "lost_ns", "overflow_ns")
    fields = CPU_SLOT.fields or {}
    return tuple(fields[prefix + name][1] // 8 for name in names)


SINCE, IDLE, BUSY, LOST, OVERFLOW = NOW = _words()
CLOSED = _words("closed_")
EPOCH = (CPU_SLOT.fields or {})["epoch"][1] // 8

ONLINE_PERIOD_NS = 100_000_000
"""How long a list of CPUs online is trusted: a CPU that comes or goes is noticed at once."""

Figures = tuple[int, int, int, int, int]
"""Of one CPU, in ns: its own boundary on the monotonic clock, then its idle, busy, lost and
overflow time up to that since attaching."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Every CPU at the end of an interval: ``figures`` by CPU number."""

    online: frozenset[int]
    figures: tuple[Figures, ...]

    @property
    def mean_ns(self) -> int:
        """The instant of the boundary: the mean over the CPUs online, microseconds apart."""
        return sum(self.figures[cpu][0] for cpu in self.online) // max(len(self.online), 1)

    @property
    def lost_ns(self) -> int:
        """CPU time since attaching that has no owner."""
        return sum(figures[3] for figures in self.figures)

    @property
    def overflow_ns(self) -> int:
        """CPU time since attaching that is known by cgroup only."""
        return sum(figures[4] for figures in self.figures)


class Slots:
    """The slots and the control record. Plain numbers: there are few, and numpy costs memory."""

    def __init__(self, programs: Programs, topology: Topology) -> None:
        self._topology = topology
        self._socket_of = topology.socket_of
        self._control = shared_records(programs.maps["control"], CONTROL, 1)
        self._slots = shared_records(programs.maps["slots"], CPU_SLOT, len(self._socket_of))
        self._share_words()
        self._rotate = TestRun(programs.programs["rotate"])
        self._online_list: tuple[int, ...] = ()
        self._online: frozenset[int] = frozenset()
        self._online_until_ns = 0
        self._offline: dict[int, int] = {}

    @property
    def control(self) -> Records:
        """The control record, one element; the kernel side reads and writes it."""
        return self._control

    def control_word(self, name: str) -> int:
        """Read a 64-bit word of the control record."""
        return self._control_words[(CONTROL.fields or {})[name][1] // 8]

    @property
    def epoch(self) -> int:
        """The set of maps in use is the lowest bit of this."""
        return self._control_words[0]

    def close(self) -> None:
        """Release the shared memory, which keeps its maps alive; the last figures stay."""
        self._control, self._slots = self._control.copy(), self._slots.copy()
        self._share_words()

    def prepare(self) -> None:
        """Write the socket of each CPU for the kernel side."""
        self._socket_of = self._topology.socket_of
        self._slots["socket"] = self._socket_of

    def close_interval(self, *, wake_idle: bool = False) -> Boundary:
        """Move every CPU to the other set of maps; after it the old set is quiet.

        Idle CPUs are not interrupted: they charge nothing. *wake_idle* interrupts them as well,
        which the first boundary needs, as the state of a CPU is not known before it.
        """
        # The clock first: a CPU that wakes after the epoch is raised has since_ns > now_ns.
        now_ns = time.monotonic_ns()
        if now_ns >= self._online_until_ns:
            self._refresh_online(now_ns)
        self._control_words[0] += 1
        # Two looks, each in the order of the words: idle before the figures in the first, since
        # and idle again in the second; see leave_idle() in bpf/charge.h. No idle period has the
        # word of another, so figures between two equal looks are settled.
        first, second = self._words.tolist(), self._words.tolist()
        self._add_hotplugged(first)
        figures: list[Figures] = []
        idle = set()
        for cpu in range(len(self._socket_of)):
            word = cpu * SLOT_WORDS
            idle_ns = first[word + IDLE]
            if idle_ns < 0:
                if second[word + IDLE] == idle_ns and second[word + SINCE] <= now_ns:
                    idle.add(cpu)
                idle_ns += now_ns
            rest = first[word + BUSY], first[word + LOST], first[word + OVERFLOW]
            figures.append((now_ns, idle_ns, *rest))
        idle = set() if wake_idle else idle & self._online
        closed = self._close_cpus(self._online - idle, figures)
        closed |= self._close_cpus(self._left_idle(idle, first), figures)
        return Boundary(closed | idle, tuple(figures))

    def between(self, start: Boundary, end: Boundary) -> tuple[SocketTime, int]:
        """CPU time by socket between two boundaries, and the CPU time that passed by the clock.

        Of a CPU that was not online at both, only what it was busy is known to have existed.
        """
        steady, wall_ns = start.online & end.online, 0
        idle_ns, busy_ns, lost_ns = ([0] * self._topology.sockets for _ in range(3))
        for cpu, (socket, before, after) in enumerate(
            zip(self._socket_of, start.figures, end.figures, strict=True)
        ):
            busy_ns[socket] += after[2] - before[2]
            lost_ns[socket] += after[3] - before[3]
            if cpu in steady:
                idle_ns[socket] += after[1] - before[1]
                wall_ns += after[0] - before[0]
            else:
                wall_ns += after[2] - before[2]
        return SocketTime(tuple(busy_ns), tuple(idle_ns), tuple(lost_ns)), wall_ns

    def busy_ns_by_socket(self, boundary: Boundary) -> tuple[int, ...]:
        """Busy time in ns of each socket since attaching, up to *boundary*."""
        busy_ns = [0] * self._topology.sockets
        for socket, figures in zip(self._socket_of, boundary.figures, strict=True):
            busy_ns[socket] += figures[2]
        return tuple(busy_ns)

    def _share_words(self) -> None:
        self._words = self._slots.view(np.int64).data
        self._control_words = self._control.view(np.int64).data

    def _close_cpus(self, cpus: frozenset[int], figures: list[Figures]) -> frozenset[int]:
        """Interrupt *cpus* and take their figures as closed; return those that were online."""
        online = frozenset(cpu for cpu in cpus if self._rotate.on_cpu(cpu))
        for cpu in cpus:
            # A CPU that went offline meanwhile is not traced any more: these are its last.
            names = CLOSED if cpu in online else NOW
            at_ns, idle_ns, busy_ns, lost_ns, overflow_ns = (
                self._words[cpu * SLOT_WORDS + word] for word in names
            )
            figures[cpu] = at_ns, idle_ns, busy_ns, lost_ns, overflow_ns
        return online

    def _left_idle(self, idle: set[int], first: list[int]) -> frozenset[int]:
        """CPUs that left idle without having seen the new epoch, and may still charge to the old.

        There are none where the kernel's atomic add is a full barrier, as on x86; on other
        architectures it need not be.
        """
        return frozenset(
            cpu
            for cpu in idle
            if self._words[cpu * SLOT_WORDS + IDLE] != first[cpu * SLOT_WORDS + IDLE]
            and self._words[cpu * SLOT_WORDS + EPOCH] != self._control_words[0]
        )

    def _add_hotplugged(self, words: list[int]) -> None:
        """Close CPUs that have come online as well: their first switch leaves idle."""
        arrived = [
            cpu for cpu, word in self._offline.items() if words[cpu * SLOT_WORDS + IDLE] != word
        ]
        if arrived:
            self._online = self._online.union(arrived)
            self._online_until_ns = 0

    def _refresh_online(self, now_ns: int) -> None:
        """List the CPUs online, and note the idle words of those that are offline."""
        self._online_until_ns = now_ns + ONLINE_PERIOD_NS
        # Words first: what comes online in between has a word that is another later.
        words, online = self._words.tolist(), self._topology.online()
        if online is not self._online_list:
            self._online_list = online
            self.prepare()
        self._online = frozenset(online)
        offline = set(range(len(self._socket_of))) - self._online
        self._offline = {cpu: words[cpu * SLOT_WORDS + IDLE] for cpu in offline}


def shared_records(map_fd: int, dtype: np.dtype[np.void], count: int) -> Records:
    """Map a BPF array into this process as *count* records of *dtype*."""
    pages = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(map_fd, pages), dtype, count)
