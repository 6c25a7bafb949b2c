"""Every CPU's account as the kernel keeps it in shared memory, and its closing by interval.

Holds the rule that makes an interval exact: which CPUs must be interrupted to close it, and what
each CPU's figures are at its own boundary. See ``bpf/kepler.h`` for the words in a slot.
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

AT, IDLE, BUSY, LOST, OVERFLOW = range(5)
"""Figures of a CPU in a ``Boundary``, and in this order the first words of its slot."""

FIGURES = 5
SLOT_WORDS = CPU_SLOT.itemsize // 8
EPOCH_WORD = 2 * FIGURES
"""The slot has the figures as they are now, then as they were at its last change of epoch."""

ONLINE_PERIOD_NS = 100_000_000
"""How long a list of CPUs online is trusted: who went or came meanwhile is noticed at once."""

Figures = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Boundary:
    """Every CPU at the end of an interval.

    ``figures`` has for each CPU, in ns: the instant of its own boundary on the monotonic clock,
    and its idle, busy, lost and overflow time up to then since attaching.
    """

    online: frozenset[int]
    figures: tuple[Figures, ...]

    @property
    def mean_ns(self) -> int:
        """The instant of the boundary: the mean over the CPUs online, microseconds apart."""
        return sum(self.figures[cpu][AT] for cpu in self.online) // max(len(self.online), 1)

    def total_ns(self, figure: int) -> int:
        """Sum a figure over the CPUs."""
        return sum(each[figure] for each in self.figures)


class Cpus:
    """The slots and the control word, shared with the kernel side by memory.

    Plain numbers, not arrays: for a handful of words of each CPU, waking numpy up after a pause
    would cost more than the interval's real work.
    """

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
        self._away: dict[int, int] = {}

    @property
    def control(self) -> Records:
        """The control record, one element; the kernel side reads and writes it."""
        return self._control

    @property
    def epoch(self) -> int:
        """The set of maps in use is the lowest bit of this."""
        return self._epoch[0]

    def close(self) -> None:
        """Let go of the shared memory, which keeps its maps alive; the last figures stay."""
        self._control, self._slots = self._control.copy(), self._slots.copy()
        self._share_words()

    def prepare(self) -> None:
        """Tell the kernel side each CPU's socket; before attaching, and when CPUs appear."""
        self._socket_of = self._topology.socket_of
        self._slots["socket"] = self._socket_of

    def close_interval(self, *, wake_idle: bool = False) -> Boundary:
        """Move every CPU to the other set of maps; after it the old set is quiet.

        Idle CPUs are left asleep: they charge nobody. *wake_idle* interrupts them as well, which
        the first boundary needs, as a CPU's state is not known before it.
        """
        # The clock first: a CPU that wakes after the epoch is raised has since_ns > now_ns.
        now_ns = time.monotonic_ns()
        if now_ns >= self._online_until_ns:
            self._refresh_online(now_ns)
        self._epoch[0] += 1
        # This order: idle first and since after the rest, see leave_idle() in bpf/charge.h.
        # No idle period repeats another's word, so figures between two equal looks are settled.
        idle = self._word(IDLE)
        self._welcome(idle)
        rest = [self._word(figure) for figure in (BUSY, LOST, OVERFLOW)]
        since, again = self._word(AT), self._word(IDLE)
        asleep = [
            cpu
            for cpu in self._online
            if not wake_idle and idle[cpu] < 0 and since[cpu] <= now_ns and again[cpu] == idle[cpu]
        ]
        figures: list[Figures] = [
            (now_ns, each + now_ns if each < 0 else each, *others)
            for each, *others in zip(idle, *rest, strict=True)
        ]
        closed = self._close_cpus(self._online.difference(asleep), figures)
        closed |= self._close_cpus(self._woken(asleep, idle), figures)
        return Boundary(closed.union(asleep), tuple(figures))

    def between(self, start: Boundary, end: Boundary) -> tuple[SocketTime, int]:
        """CPU time by socket between two boundaries, and the CPU time that passed by the clock.

        Of a CPU that was not online at both, only what it was busy is known to have existed.
        """
        steady, wall_ns = start.online & end.online, 0
        busy_ns, idle_ns, lost_ns = ([0] * self._topology.sockets for _ in range(3))
        for cpu, socket in enumerate(self._socket_of):
            before, after = start.figures[cpu], end.figures[cpu]
            busy_ns[socket] += after[BUSY] - before[BUSY]
            lost_ns[socket] += after[LOST] - before[LOST]
            if cpu in steady:
                idle_ns[socket] += after[IDLE] - before[IDLE]
                wall_ns += after[AT] - before[AT]
            else:
                wall_ns += after[BUSY] - before[BUSY]
        busy, idle = np.array(busy_ns, np.int64), np.array(idle_ns, np.int64)
        times = SocketTime(
            window_ns=busy + idle, busy_ns=busy, idle_ns=idle, lost_ns=np.array(lost_ns, np.int64)
        )
        return times, wall_ns

    def busy_ns_by_socket(self, boundary: Boundary) -> tuple[int, ...]:
        """Busy time in ns of each socket since attaching, up to *boundary*."""
        busy_ns = [0] * self._topology.sockets
        for socket, figures in zip(self._socket_of, boundary.figures, strict=True):
            busy_ns[socket] += figures[BUSY]
        return tuple(busy_ns)

    def _share_words(self) -> None:
        self._words = self._slots.view(np.int64).data
        self._epoch = self._control.view(np.int64).data

    def _word(self, word: int) -> list[int]:
        """Read one word of every slot."""
        column: list[int] = self._words[word::SLOT_WORDS].tolist()
        return column

    def _close_cpus(self, cpus: frozenset[int], figures: list[Figures]) -> frozenset[int]:
        """Interrupt *cpus* and take their figures as closed; return those that were online."""
        online = frozenset(cpu for cpu in cpus if self._rotate.on_cpu(cpu))
        for cpu in cpus:
            first = cpu * SLOT_WORDS
            if cpu in online:
                first += FIGURES
            # A CPU that went offline meanwhile is not traced any more: these are its last.
            figures[cpu] = tuple(self._words[first : first + FIGURES].tolist())
        return online

    def _woken(self, asleep: list[int], idle: list[int]) -> frozenset[int]:
        """CPUs that left idle without having seen the new epoch, and may still charge to the old.

        There are none where the kernel's atomic add is a full barrier, as on x86; on other
        architectures it need not be.
        """
        now, epochs = self._word(IDLE), self._word(EPOCH_WORD)
        return frozenset(
            cpu for cpu in asleep if now[cpu] != idle[cpu] and epochs[cpu] != self._epoch[0]
        )

    def _welcome(self, idle: list[int]) -> None:
        """Close CPUs that have come online as well: their first switch leaves idle."""
        arrived = [cpu for cpu, word in self._away.items() if idle[cpu] != word]
        if arrived:
            self._online = self._online.union(arrived)
            self._online_until_ns = 0

    def _refresh_online(self, now_ns: int) -> None:
        """List the CPUs online, and note what the others' idle words are while they are away."""
        self._online_until_ns = now_ns + ONLINE_PERIOD_NS
        # Words first: what comes online in between has a word that is another later.
        idle, online = self._word(IDLE), self._topology.online()
        if online is not self._online_list:
            self._online_list = online
            self.prepare()
        self._online = frozenset(online)
        self._away = {cpu: word for cpu, word in enumerate(idle) if cpu not in self._online}


def shared_records(map_fd: int, dtype: np.dtype[np.void], count: int) -> Records:
    """Map a BPF array into this process as *count* records of *dtype*."""
    pages = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(map_fd, pages), dtype, count)
