"""The CPU slots that the kernel side shares with this process, and their closing by interval.

Holds the rule that makes an interval exact: which CPUs must be interrupted to close it, and what
the figures of each CPU are at its own boundary. See ``bpf/kepler.h`` for the words of a slot.
"""

from __future__ import annotations

import mmap
import time
from typing import Any, NamedTuple

import numpy as np

from kepler_ebpf.host.topology import Topology
from kepler_ebpf.kernel.layout import CONTROL, CPU_SLOT
from kepler_ebpf.kernel.libbpf import TestRun
from kepler_ebpf.kernel.programs import Programs
from kepler_ebpf.model.arrays import Records
from kepler_ebpf.model.usage import SocketTime


def _words(dtype: np.dtype[np.void]) -> dict[str, int]:
    """Return the index of the 64-bit word in which each field begins."""
    fields: Any = dtype.fields
    return {name: offset // 8 for name, (_, offset) in fields.items()}


CONTROL_WORDS, _OF_SLOT = _words(CONTROL), _words(CPU_SLOT)
SLOT_WORDS = CPU_SLOT.itemsize // 8
SINCE, IDLE, BUSY, LOST, OVERFLOW = (
    _OF_SLOT[f"{name}_ns"] for name in ("since", "idle", "busy", "lost", "overflow")
)
EPOCH, CLOSED = _OF_SLOT["epoch"], _OF_SLOT["closed_at_ns"]
"""``CLOSED`` is the first of five, in the order of ``Figures``, that are written on closing."""

ONLINE_PERIOD_NS = 100_000_000
"""How long a list of CPUs online is trusted: a CPU that comes or goes is noticed at once."""


class Figures(NamedTuple):
    """One CPU at its own boundary, in ns: the monotonic clock, and its time since attaching."""

    at_ns: int
    idle_ns: int
    busy_ns: int
    lost_ns: int
    overflow_ns: int


class Boundary(NamedTuple):
    """Every CPU at the end of an interval; ``figures`` by CPU number.

    ``mean_ns`` is the instant of the boundary, the mean over the CPUs ``online``, which are
    microseconds apart. ``overflow_ns`` is the sum over all CPUs.
    """

    online: frozenset[int]
    figures: tuple[Figures, ...]
    mean_ns: int
    overflow_ns: int

    @property
    def lost_ns(self) -> int:
        """CPU time since attaching that has no owner."""
        return sum(figures.lost_ns for figures in self.figures)


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
        return self._control_words[CONTROL_WORDS[name]]

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
        now_ns, words = time.monotonic_ns(), self._words
        if now_ns >= self._online_until_ns:
            self._refresh_online(now_ns)
        self._control_words[0] += 1
        # Two looks, each in the order of the words: idle before the figures in the first, since
        # and idle again in the second; see leave_idle() in bpf/charge.h. No idle period has the
        # word of another, so figures between two equal looks are settled.
        first, second = words.tolist(), words.tolist()
        if self._offline:
            self._add_hotplugged(first)
        figures: list[Figures] = []
        idle: list[int] = []
        gone: list[int] = []
        for cpu, word in enumerate(range(0, len(first), SLOT_WORDS)):
            idle_ns = first[word + IDLE]
            settled = second[word + IDLE] == idle_ns and second[word + SINCE] <= now_ns
            if cpu in self._online and (wake_idle or idle_ns >= 0 or not settled):
                figures.append(self._close(cpu, gone))
                continue
            idle.append(cpu)
            idle_ns += now_ns if idle_ns < 0 else 0
            rest = first[word + BUSY], first[word + LOST], first[word + OVERFLOW]
            figures.append(Figures(now_ns, idle_ns, *rest))
        for cpu in idle:
            if self._left_idle(cpu, first):
                figures[cpu] = self._close(cpu, gone)
        return _boundary(self._online.difference(gone) if gone else self._online, figures)

    def between(self, start: Boundary, end: Boundary) -> tuple[SocketTime, int]:
        """CPU time by socket between two boundaries, and the CPU time that passed by the clock.

        Of a CPU that was not online at both, only what it was busy is known to have existed.
        """
        steady, wall_ns = start.online & end.online, 0
        idle_ns, busy_ns, lost_ns = ([0] * self._topology.sockets for _ in range(3))
        for cpu, (socket, before, after) in enumerate(
            zip(self._socket_of, start.figures, end.figures, strict=True)
        ):
            busy_ns[socket] += after.busy_ns - before.busy_ns
            lost_ns[socket] += after.lost_ns - before.lost_ns
            if cpu in steady:
                idle_ns[socket] += after.idle_ns - before.idle_ns
                wall_ns += after.at_ns - before.at_ns
            else:
                wall_ns += after.busy_ns - before.busy_ns
        return SocketTime(tuple(busy_ns), tuple(idle_ns), tuple(lost_ns)), wall_ns

    def busy_ns_by_socket(self, boundary: Boundary) -> tuple[int, ...]:
        """Busy time in ns of each socket since attaching, up to *boundary*."""
        busy_ns = [0] * self._topology.sockets
        for socket, figures in zip(self._socket_of, boundary.figures, strict=True):
            busy_ns[socket] += figures.busy_ns
        return tuple(busy_ns)

    def _share_words(self) -> None:
        self._words = self._slots.view(np.int64).data
        self._control_words = self._control.view(np.int64).data

    def _close(self, cpu: int, gone: list[int]) -> Figures:
        """Interrupt *cpu* and return its figures as closed; note it in *gone* if it is offline."""
        word = cpu * SLOT_WORDS
        if self._rotate.on_cpu(cpu):
            return Figures(*self._words[word + CLOSED : word + CLOSED + len(Figures._fields)])
        # It went offline meanwhile and is not traced any more: these are its last figures.
        gone.append(cpu)
        names = (SINCE, IDLE, BUSY, LOST, OVERFLOW)
        return Figures(*(self._words[word + name] for name in names))

    def _left_idle(self, cpu: int, first: list[int]) -> bool:
        """Return whether a CPU left idle without having read the new epoch.

        It may still charge to the old set of maps. This does not happen where the kernel's atomic
        add is a full barrier, as on x86; on other architectures it need not be.
        """
        word = cpu * SLOT_WORDS
        woken = cpu in self._online and self._words[word + IDLE] != first[word + IDLE]
        return woken and self._words[word + EPOCH] != self._control_words[0]

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


def _boundary(online: frozenset[int], figures: list[Figures]) -> Boundary:
    at_ns = overflow_ns = 0
    for cpu, of_cpu in enumerate(figures):
        at_ns += of_cpu.at_ns if cpu in online else 0
        overflow_ns += of_cpu.overflow_ns
    return Boundary(online, tuple(figures), at_ns // max(len(online), 1), overflow_ns)


def shared_records(map_fd: int, dtype: np.dtype[np.void], count: int) -> Records:
    """Map a BPF array into this process as *count* records of *dtype*."""
    pages = -(-dtype.itemsize * count // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(map_fd, pages), dtype, count)
