"""What each process uses from its first record to its end, over any number of intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Literal

import numpy as np

from kepler_ebpf.kernel.layout import FLAG_ENDED
from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.model.names import ExecEvent

MAX_LIVES = 1 << 16
"""Processes that are followed at once."""

MAX_CHECKED = 64
"""Processes whose end may have been lost: so many are looked up in an interval, when it is full."""

Key = tuple[int, int]
"""Of a process: its pid, and its start on the boot-time clock in ns."""

_COLUMNS = ("tgid", "process_start_ns", "parent_tgid", "cpu_ns", "flags", "cgroup_id")


@dataclass(slots=True)
class Life:
    """A process, with what it has used since it is followed; ``energy_uj`` is (kinds,)."""

    key: Key
    energy_uj: Floats
    cpu_ns: int = 0
    parent: int = 0
    comm: str = ""
    exe: str = ""
    arguments: tuple[str, ...] = ()
    cgroup_id: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A *life* has executed ``exe``, or has ended; ``at_ns`` is at most an interval later."""

    kind: Literal["exec", "end"]
    at_ns: int
    life: Life
    exe: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def lifetime_s(self) -> float:
        """From the start of the process to the end of the interval, in seconds."""
        return max(self.at_ns - self.life.key[1], 0) / NS_PER_S


@dataclass(slots=True)
class Lives:
    """The processes that are followed; *zero* (kinds,) is their energy at the beginning."""

    zero: Floats
    is_alive: Callable[[Key], bool]
    without_room: int = 0
    """How many processes found no room, at most: a process counts in each interval."""
    _lives: dict[Key, Life] = field(default_factory=dict)
    _due: list[Event] = field(default_factory=list)

    def add(
        self,
        records: Records,
        shares_uj: Floats,
        execs: Iterable[ExecEvent],
        ends: Iterable[Key],
        at_ns: int,
    ) -> list[Event]:
        """Add an interval that ended *at_ns* (boot time); return the events of the one before it.

        Of *records* (N,), of dtype ``kernel.layout.TASK``, each used *shares_uj* (N, kinds).
        A process's last slice may be in the interval after that of its end.
        """
        ended = dict.fromkeys(ends)
        ended |= dict.fromkeys(self._credit(records, shares_uj))
        due, self._due = self._due, []
        for event in due:
            if event.kind == "end":
                self._lives.pop(event.life.key, None)
        for each in execs:
            key = (each.tgid, each.start_ns)
            if life := self._life(key):
                life.exe, life.arguments = each.exe, each.arguments
                self._due.append(Event("exec", at_ns, life, each.exe, each.arguments))
        if len(self._lives) >= MAX_LIVES:
            ended |= dict.fromkeys(self._lost())
        self._due += [
            Event("end", at_ns, life, life.exe, life.arguments)
            for key in sorted(ended, key=itemgetter(1))
            if (life := self._lives.get(key))
        ]
        return due

    def _credit(self, records: Records, shares_uj: Floats) -> Iterator[Key]:
        """Add what the processes used; yield those that have ended."""
        # Of a process in two cgroups, the record of its end has the last one.
        order = np.argsort(records["flags"] & np.uint32(FLAG_ENDED), kind="stable")
        records = records[order]
        columns = [records[name].tolist() for name in _COLUMNS]
        rows = zip(*columns, records["process_comm"].tolist(), shares_uj[order], strict=True)
        for tgid, start_ns, parent, cpu_ns, flags, cgroup_id, comm, energy_uj in rows:
            life = self._life((tgid, start_ns)) if tgid else None
            if life is None:
                continue
            life.cpu_ns += cpu_ns
            life.energy_uj = life.energy_uj + energy_uj
            life.parent, life.cgroup_id = parent or life.parent, cgroup_id
            life.comm = comm.decode("utf-8", "replace")
            if flags & FLAG_ENDED:
                yield life.key

    def _life(self, key: Key) -> Life | None:
        life = self._lives.get(key)
        if life is None and len(self._lives) < MAX_LIVES:
            life = self._lives[key] = Life(key, self.zero)
        self.without_room += life is None
        return life

    def _lost(self) -> Iterator[Key]:
        """Yield processes that have ended unseen; those that live are looked up again last."""
        for key in list(self._lives)[:MAX_CHECKED]:
            if self.is_alive(key):
                self._lives[key] = self._lives.pop(key)
            else:
                yield key
