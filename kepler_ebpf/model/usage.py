"""CPU time of one interval, as the kernel side has counted it."""

from __future__ import annotations

from dataclasses import dataclass

from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.model.energy import NS_PER_S


@dataclass(frozen=True, slots=True)
class SocketTime:
    """CPU time of one interval by socket; every array is int64 of shape (sockets,).

    ``window_ns`` is CPU time that existed: busy + idle, exactly. ``busy_ns`` includes
    ``lost_ns``, the time the kernel maps had no room to give to a task or a cgroup.
    """

    window_ns: Ints
    busy_ns: Ints
    idle_ns: Ints
    lost_ns: Ints


@dataclass(frozen=True, slots=True)
class Usage:
    """The kernel's account of one closed interval.

    ``tasks`` has one record (``layout.TASK``) for each task, cgroup and socket that used CPU
    time. Tasks that found no room in the task map are summed in one record for each cgroup and
    socket, with pid and tgid 0 (see ``OVERFLOW_COMM``). ``wall_ns`` is the CPU time that passed
    by the clock alone, to hold the account against.
    """

    start_ns: int
    end_ns: int
    wall_ns: int
    tasks: Records
    sockets: SocketTime

    @property
    def interval_s(self) -> float:
        """Length of the interval by the clock."""
        return (self.end_ns - self.start_ns) / NS_PER_S


OVERFLOW_COMM = "[overflow]"
"""The comm of the record that holds the time of a cgroup's tasks the kernel map had no room for."""
