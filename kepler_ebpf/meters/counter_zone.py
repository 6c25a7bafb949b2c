"""One zone of a counter meter: its source, its counter, and its last reading."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kepler_ebpf.meters.energy_counter import EnergyCounter, Fault
from kepler_ebpf.meters.zone_names import kind_of
from kepler_ebpf.model.energy import Zone

LOG = logging.getLogger(__name__)

MIN_WORK_NS: Final = 20_000_000
"""CPU time that every counter but the graphics' must show: some mJ, over 100 steps of RAPL."""


BOUND_W: Final = {"package": 1500.0, "core": 1500.0, "uncore": 500.0, "dram": 800.0, "psys": 6000.0}
"""Highest power of one zone, about three times that of the largest parts of 2026."""


@dataclass(slots=True)
class CounterSource:
    """One counter: its descriptor, opened at the first reading and kept open.

    ``read_fd`` returns the µJ that the descriptor shows; OSError or ValueError where it fails.
    ``counts_from_opening``: a perf event restarts at zero when it is opened anew. A file does not:
    another file may take its place, and opening it anew finds that one.
    """

    open_it: Callable[[], int]
    read_fd: Callable[[int], float]
    counts_from_opening: bool
    _fd: int = field(default=-1, init=False)

    def read_uj(self) -> float:
        """Read the counter, opening it first when closed; OSError or ValueError when it fails."""
        if self._fd < 0:
            self._fd = self.open_it()
        return self.read_fd(self._fd)

    def close(self) -> None:
        """Close the counter; the next read opens it anew."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(slots=True, eq=False)
class CounterZone:
    """A zone and the state of its counter.

    ``names`` are the kernel's names of the counter, ``package`` its physical package id (None: the
    platform). ``raw_uj`` is the last value that was read, None after a failure. ``energy_uj`` and
    ``is_valid`` are those of the meter's reading, ``previous_uj`` is the energy of the one before.
    ``checked_raw_uj`` is the raw value at the last check for standing still. ``error`` is why the
    zone fails now.
    """

    zone: Zone
    names: set[str]
    package: int | None
    source: CounterSource
    counter: EnergyCounter
    raw_uj: float | None = field(default=None, init=False)
    energy_uj: float = field(default=0.0, init=False)
    previous_uj: float = field(default=0.0, init=False)
    checked_raw_uj: float | None = field(default=None, init=False)
    is_valid: bool = field(default=False, init=False)
    error: str = field(default="", init=False)
    faults: dict[Fault, int] = field(default_factory=lambda: dict.fromkeys(Fault, 0), init=False)

    def is_named(self, wanted: str) -> bool:
        """Whether *wanted*, a kind or a kernel's name, means this zone; a package has its dies."""
        return any(
            wanted in {name, kind_of(name)} or name.startswith(f"{wanted}-die-")
            for name in self.names
        )

    def read(self) -> None:
        """Read the raw value, None where that fails."""
        try:
            self.raw_uj = self.source.read_uj()
        except (OSError, ValueError) as error:
            self.raw_uj = None
            self._fail(Fault.READ, getattr(error, "strerror", None) or str(error))
            self.source.close()
            if self.source.counts_from_opening:
                self.counter.forget()

    def update(self, started_ns: int, ended_ns: int) -> None:
        """Credit the raw value, read between two instants."""
        self.previous_uj = self.energy_uj
        if self.raw_uj is None:
            self.is_valid = False
            return
        fault = self.counter.update(self.raw_uj, started_ns, ended_ns)
        if fault is Fault.JUMP:
            self.is_valid = False
            self._fail(fault, f"impossible value {self.raw_uj:.0f}")
            return
        self.is_valid = True
        self.energy_uj = self.counter.total_uj
        if fault is not None:
            self.faults[fault] += 1
            LOG.warning("%s: too long since the last reading to know its energy", self.zone.path)
        if self.error:
            LOG.info("%s is read again", self.zone.path)
            self.error = ""

    def stand_still(self, worked_ns: Sequence[int]) -> None:
        """Count a fault if CPU time *worked_ns*, by socket, had to move the counter meanwhile.

        Graphics may rest. A counter that reads zero and never moved is not connected (yet). The
        work on a package without an online CPU, which has no socket, is not known.
        """
        kind, socket = self.zone.kind, self.zone.socket
        if kind == "psys":
            work_ns = sum(worked_ns)
        else:
            work_ns = 0 if kind == "uncore" or socket is None else worked_ns[socket]
        if work_ns >= MIN_WORK_NS and not self.counter.at_zero:
            self.faults[Fault.STUCK] += 1
        if not self.source.counts_from_opening:
            # Another file may have taken its place: the next read opens that one.
            self.source.close()

    def _fail(self, fault: Fault, reason: str) -> None:
        self.faults[fault] += 1
        if not self.error:
            LOG.warning("%s gives no reading: %s", self.zone.path, reason)
        self.error = reason
