"""A meter made of hardware counters: reads each, and lets one fail without the others.

What a counter is (a sysfs file, a perf event) is behind ``CounterSource``; what its numbers mean
is in ``counters``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from kepler_ebpf.errors import SetupError
from kepler_ebpf.meters.energy_counter import EnergyCounter, Fault
from kepler_ebpf.model.energy import MeterReading, Zone

LOG = logging.getLogger(__name__)

Clock = Callable[[], int]
"""Monotonic time in nanoseconds."""

Wait = Callable[[float], None]
"""Waits for a number of seconds."""

PROBE_WAIT_S: Final = 0.025
PROBE_ROUNDS: Final = 4
PROBE_PATIENCE: Final = 12
"""RAPL moves every millisecond; only dead zones see the later rounds, only dead meters the last."""


class MeterRefusedError(SetupError):
    """This host cannot offer the meter: ``detail`` says why, ``remedy`` what to do about it."""

    def __init__(self, detail: str, remedy: str) -> None:
        """Keep both parts, for a table as well as for a message."""
        super().__init__(f"{detail}\n{remedy}")
        self.detail = detail
        self.remedy = remedy


class CounterSource(Protocol):
    """One counter that can be read again and again.

    ``may_be_replaced``: it is a file, which another may have taken the place of meanwhile; what
    counts from its opening, as a perf event does, must not be opened anew without need.
    """

    @property
    def may_be_replaced(self) -> bool:
        """Whether a counter that stands still is to be opened anew."""

    def read_uj(self) -> float:
        """Read the counter, opening it first when closed; OSError or ValueError when it fails."""

    def close(self) -> None:
        """Let go of the counter; the next read opens it anew."""


@dataclass(slots=True)
class CounterZone:
    """A zone, where its counter is read and what it has counted; ``error`` is why it fails now."""

    zone: Zone
    source: CounterSource
    counter: EnergyCounter
    error: str = field(default="", init=False)


class CounterMeter:
    """Reads every zone's counter; a zone that fails is marked invalid, counted and tried again."""

    is_estimate = False

    def __init__(
        self, name: str, parts: Iterable[CounterZone], clock: Clock = time.monotonic_ns
    ) -> None:
        """Take the parts over; ``close`` closes them."""
        self.name = name
        self._clock = clock
        self._parts: tuple[CounterZone, ...] = ()
        self._errors: dict[tuple[str, str], int] = {}
        self._keep(tuple(parts))

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of every reading."""
        return tuple(part.zone for part in self._parts)

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Counted faults by (zone path, reason), zeros included."""
        return dict(self._errors)

    @property
    def max_wait_s(self) -> float:
        """How long all counters may go unread, so that none passes its range unseen."""
        return min((part.counter.max_wait_s for part in self._parts), default=math.inf)

    def read(self) -> MeterReading:
        """Read every zone once; never raises for a zone."""
        started_ns = self._clock()
        raw_uj = [self._read_raw(part) for part in self._parts]
        ended_ns = self._clock()
        valid = [
            raw is not None and self._account(part, raw, started_ns, ended_ns)
            for part, raw in zip(self._parts, raw_uj, strict=True)
        ]
        total_uj = [part.counter.total_uj for part in self._parts]
        gaps = [part.counter.gaps for part in self._parts]
        return MeterReading(
            at_ns=started_ns,
            energy_uj=np.array(total_uj),
            valid=np.array(valid, np.bool_),
            gaps=np.array(gaps, np.int64),
        )

    def close(self) -> None:
        """Close every counter."""
        for part in self._parts:
            part.source.close()

    def prove(self, wait: Wait, remedy: str) -> None:
        """Check that counters move, and leave out zones that nothing feeds (they read zero).

        A zone that cannot be read stays: it may come back. Raises MeterRefusedError with
        ``remedy`` when no zone can be read or none moves; the meter is then still to be closed.
        """
        self.read()
        for done in range(1, PROBE_PATIENCE + 1):
            wait(PROBE_WAIT_S)
            self.read()
            moved = [part.counter.total_uj > 0 for part in self._parts]
            if all(moved) or (any(moved) and done >= PROBE_ROUNDS):
                break
        if not any(moved):
            raise MeterRefusedError(self._why_nothing_moves(), remedy)
        self._leave_out_dead()

    def _why_nothing_moves(self) -> str:
        failed = [part for part in self._parts if part.error]
        if len(failed) == len(self._parts):
            return f"no counter can be read ({failed[0].zone.path}: {failed[0].error})"
        return f"its counters do not move ({self._parts[0].zone.path} and the others)"

    def _leave_out_dead(self) -> None:
        dead = [part for part in self._parts if part.counter.at_zero]
        for part in dead:
            LOG.info("%s reads 0 and does not move: left out", part.zone.path)
            part.source.close()
        self._keep(tuple(part for part in self._parts if not part.counter.at_zero))

    def _keep(self, parts: tuple[CounterZone, ...]) -> None:
        self._parts = parts
        keys = [(part.zone.path, fault.value) for part in parts for fault in Fault]
        self._errors = {key: self._errors.get(key, 0) for key in keys}

    def _read_raw(self, part: CounterZone) -> float | None:
        try:
            return part.source.read_uj()
        except OSError as error:
            self._reject(part, Fault.READ, error.strerror or str(error))
        except ValueError as error:
            self._reject(part, Fault.READ, str(error))
        part.source.close()
        if not part.source.may_be_replaced:
            part.counter.forget()
        return None

    def _account(self, part: CounterZone, raw_uj: float, started_ns: int, ended_ns: int) -> bool:
        fault = part.counter.update(raw_uj, started_ns, ended_ns)
        if fault is Fault.JUMP:
            self._reject(part, fault, f"impossible value {raw_uj:.0f}")
            return False
        if fault is not None:
            self._errors[part.zone.path, fault.value] += 1
        if fault is Fault.STUCK and part.source.may_be_replaced:
            part.source.close()
        if fault is Fault.GAP:
            LOG.warning("%s: too long since the last reading to know its energy", part.zone.path)
        if part.error:
            LOG.info("%s is read again", part.zone.path)
            part.error = ""
        return True

    def _reject(self, part: CounterZone, fault: Fault, why: str) -> None:
        self._errors[part.zone.path, fault.value] += 1
        if not part.error:
            LOG.warning("%s gives no reading: %s", part.zone.path, why)
        part.error = why
