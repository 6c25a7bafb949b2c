"""A meter made of hardware counters: reads every counter, and lets one fail without the others.

A ``CounterSource`` is one counter: a sysfs file or a perf event. ``energy_counter`` has the
arithmetic of its readings, ``mirrors`` finds two counters that are the same one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from kepler_ebpf.meters.counter_zone import CounterZone
from kepler_ebpf.meters.mirrors import find_pairs
from kepler_ebpf.meters.request import (
    BusySource,
    BusyTime,
    MeterRefusedError,
    Wait,
    ZonesUnavailableError,
)
from kepler_ebpf.model.energy import NS_PER_S, MeterReading, MeterStats, Zone

LOG = logging.getLogger(__name__)

PROBE_WAIT_S: Final = 0.025
MIN_PROBES: Final = 4
MAX_PROBES: Final = 16
"""RAPL moves every millisecond: only for a zone at rest the proof needs the minimum, and only for
a meter that does not move, or two counters that may be one, the maximum."""

UPDATE_S: Final = 0.0011
UNIT_UJ: Final = 61.0
"""RAPL counters move about once a millisecond, by units of 2^-14 J and less."""

STUCK_AFTER_NS: Final = 2 * NS_PER_S
"""Windows in which a counter must move are at least so long, and at least an interval."""


def open_counters(
    meter: CounterMeter, wanted: Collection[str], wait: Wait, remedy: str
) -> CounterMeter:
    """Prove the meter and keep the *wanted* zones of it, all where none is named; else close it.

    Raises MeterRefusedError with ``remedy`` where no counter works, ZonesUnavailableError where no
    wanted one does.
    """
    try:
        meter.prove(wait, remedy)
        if wanted:
            meter.select(wanted, remedy)
    except MeterRefusedError:
        meter.close()
        raise
    return meter


class CounterMeter:
    """Reads every zone's counter; a zone that fails is marked invalid, counted and tried again."""

    def __init__(
        self,
        name: str,
        items: Iterable[CounterZone],
        busy: BusySource,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take over the zones, which ``close`` closes. *clock* returns monotonic ns."""
        self._name = name
        self._busy = busy
        self._clock = clock
        self._items = self._live = tuple(items)
        self._pairs = find_pairs(self._items)
        self._checked: BusyTime | None = None
        self._check_at_ns = 0

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones, in the order of every reading."""
        return tuple(item.zone for item in self._items)

    @property
    def stats(self) -> MeterStats:
        """Counted faults by (zone path, reason), zeros included."""
        faults = {
            (item.zone.path, fault.value): count
            for item in self._items
            for fault, count in item.faults.items()
        }
        return MeterStats(
            self._name, is_estimate=False, errors=faults, update_s=UPDATE_S, unit_uj=UNIT_UJ
        )

    @property
    def max_wait_s(self) -> float:
        """Longest time between two readings in which every counter wraps once at most."""
        return min((item.counter.max_wait_s for item in self._live), default=math.inf)

    def read(self) -> MeterReading:
        """Read every zone once; never raises for a zone."""
        live, started_ns = self._live, self._clock()
        for item in live:
            item.read()
        ended_ns = self._clock()
        for item in live:
            item.update(started_ns, ended_ns)
        if self._pairs:
            self._drop_mirrors()
        if started_ns >= self._check_at_ns:
            self._find_stuck(started_ns)
        items = self._items
        return MeterReading(
            tuple([item.energy_uj for item in items]),
            tuple([item.is_valid for item in items]),
            tuple([item.counter.gaps for item in items]),
        )

    def close(self) -> None:
        """Close every counter."""
        for item in self._items:
            item.source.close()

    def prove(self, wait: Wait, remedy: str) -> None:
        """Check that counters move, and leave out second names of a counter.

        Raises MeterRefusedError with ``remedy`` when no zone can be read or none moves; the meter
        is then still to be closed.
        """
        self.read()
        for probes in range(1, MAX_PROBES + 1):
            wait(PROBE_WAIT_S)
            self.read()
            moved = [item.counter.total_uj > 0 for item in self._live]
            is_enough = probes >= MIN_PROBES or (all(moved) and not self._pairs)
            if any(moved) and is_enough and not any(pair.evidence for pair in self._pairs):
                break
        if not any(moved):
            problem = f"its counters do not move ({self._items[0].zone.path} and the others)"
            if all(item.error for item in self._items):
                problem = _unreadable(self._items)
            raise MeterRefusedError(problem, remedy)
        self._keep(self._live)

    def select(self, wanted: Collection[str], remedy: str) -> None:
        """Keep the zones of these kinds or kernel names; log the names that this host lacks.

        Raises ZonesUnavailableError where it lacks all, or none can be read.
        """
        names = [name.lower() for name in wanted]
        kept = tuple(item for item in self._items if any(map(item.is_named, names)))
        lacking = [name for name in names if not any(item.is_named(name) for item in kept)]
        has = ", ".join(sorted({name for item in self._items for name in item.names}))
        problem = (
            f"rapl.zones: the {self._name} meter has no {' or '.join(lacking)} here, only {has}"
        )
        if not kept:
            raise ZonesUnavailableError(
                problem, "name zones that it has, or remove rapl.zones for all"
            )
        if lacking:
            LOG.warning("%s", problem)
        if all(item.error for item in kept):
            raise ZonesUnavailableError(f"rapl.zones: {_unreadable(kept)}", remedy)
        self._keep(kept)

    def _keep(self, items: tuple[CounterZone, ...]) -> None:
        for item in self._items:
            if item not in items:
                item.source.close()
        self._items = items
        self._read_only(items)

    def _read_only(self, live: tuple[CounterZone, ...]) -> None:
        self._live = live
        self._pairs = [pair for pair in self._pairs if pair.first in live and pair.other in live]

    def _drop_mirrors(self) -> None:
        """Credit no energy to a second name of a counter, from the first sign of it on."""
        for pair in self._pairs:
            pair.compare()
            if pair.is_suspect:
                pair.other.energy_uj = pair.other.previous_uj
        for first, other in [(pair.first, pair.other) for pair in self._pairs if pair.is_mirror]:
            if first in self._live:
                LOG.info("%s is another name of %s: left out", other.zone.path, first.zone.path)
                first.names |= other.names
                other.source.close()
                self._read_only(tuple(item for item in self._live if item is not other))

    def _find_stuck(self, started_ns: int) -> None:
        """Count the zones that stood still since the last check, if their CPUs worked."""
        busy, last = self._busy(), self._checked
        if last is not None:
            if busy.at_ns - last.at_ns < STUCK_AFTER_NS:
                return
            worked_ns = [new - old for new, old in zip(busy.busy_ns, last.busy_ns, strict=True)]
            for item in self._live:
                if item.is_valid and item.raw_uj == item.checked_raw_uj:
                    item.stand_still(worked_ns)
        for item in self._live:
            item.checked_raw_uj = item.raw_uj
        self._checked = busy
        self._check_at_ns = started_ns + STUCK_AFTER_NS


def _unreadable(items: Sequence[CounterZone]) -> str:
    return f"no counter can be read ({items[0].zone.path}: {items[0].error})"
