"""Counters that fail, come back and stand still, by their kind of source and zone."""

from __future__ import annotations

from typing import Any

import pytest
from meter_requests import Cpus

from kepler_ebpf.meters.counter_meter import CounterMeter
from kepler_ebpf.meters.counter_zone import CounterSource, CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.model.energy import Zone


class Source(CounterSource):
    """A counter that a test sets, and that fails where it has no value."""

    def __init__(self, energy_uj: float = 1e6, *, counts_from_opening: bool = False) -> None:
        self.counts_from_opening = counts_from_opening
        self.energy_uj: Any = energy_uj
        self.openings = 0
        self._is_open = False

    def read_uj(self) -> float:
        if self.energy_uj is None:
            raise OSError("it fails")
        self.openings += not self._is_open
        self._is_open = True
        return float(self.energy_uj)

    def close(self) -> None:
        self._is_open = False


def meter_of(
    source: Source, cpus: Cpus, kind: str = "package", socket: int | None = 0
) -> CounterMeter:
    """Return a meter of one zone, read once."""
    zone = CounterZone(Zone(kind, socket, "/p"), {kind}, 0, source, EnergyCounter(bound_w=1e9))
    meter = CounterMeter("m", [zone], cpus, cpus.clock)
    meter.read()
    return meter


def stuck(meter: CounterMeter) -> int:
    """Return how often the zone was found standing still."""
    return meter.stats.errors["/p", "stuck"]


@pytest.mark.parametrize("counts_from_opening", [True, False])
def test_event_has_a_gap_after_a_failure(*, counts_from_opening: bool) -> None:
    """A file goes on counting while it is closed, an event does not."""
    source = Source(counts_from_opening=counts_from_opening)
    meter = meter_of(source, Cpus())
    before = meter.read()
    source.energy_uj = None
    assert not meter.read().valid[0]
    source.energy_uj = 3e6
    after = meter.read()
    assert after.valid[0]
    gained_uj = after.energy_uj[0] - before.energy_uj[0]
    assert (gained_uj, after.gaps[0] > before.gaps[0]) == (
        (0, True) if counts_from_opening else (2e6, False)
    )


# --- standing still ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["package", "core", "dram", "psys"])
def test_counter_that_stands_still_under_work_is_stuck(kind: str) -> None:
    """Two busy seconds without movement count once, and once more two seconds later."""
    cpus = Cpus()
    meter = meter_of(Source(), cpus, kind, None if kind == "psys" else 0)
    for _ in range(9):
        cpus.work(0.5)
        assert meter.read().valid == (True,)
    assert stuck(meter) == 2


def test_counter_that_stops_moving_is_stuck() -> None:
    """A counter that had moved is watched as well."""
    source, cpus = Source(), Cpus()
    meter = meter_of(source, cpus)
    for moves in (True, False, False):
        source.energy_uj += moves
        cpus.work(2)
        meter.read()
    assert stuck(meter) == 2


def test_moving_counter_is_never_stuck() -> None:
    """One step in two seconds is enough."""
    source, cpus = Source(), Cpus()
    meter = meter_of(source, cpus)
    for step in range(40):
        source.energy_uj += step % 4 == 0
        cpus.work(0.5)
        meter.read()
    assert stuck(meter) == 0


def test_idle_counter_is_not_stuck() -> None:
    """Without work a part may draw nothing."""
    cpus = Cpus()
    meter = meter_of(Source(), cpus)
    for _ in range(20):
        cpus.work(1, share=0.001)
        meter.read()
    assert stuck(meter) == 0


def test_graphics_are_not_moved_by_cpu_work() -> None:
    """The uncore counter rests as long as nothing is drawn on a screen."""
    cpus = Cpus()
    meter = meter_of(Source(), cpus, "uncore")
    for _ in range(10):
        cpus.work(1)
        meter.read()
    assert stuck(meter) == 0


def test_counter_that_was_never_connected_is_not_stuck() -> None:
    """It reads zero from the start on, whatever the host does."""
    source, cpus = Source(energy_uj=0), Cpus()
    meter = meter_of(source, cpus)
    cpus.work(5)
    meter.read()
    assert stuck(meter) == 0
    source.energy_uj = 1.0
    meter.read()
    cpus.work(5)
    meter.read()
    cpus.work(5)
    meter.read()
    assert stuck(meter) == 1


def test_work_on_another_socket_moves_no_counter_here() -> None:
    """Each zone is judged by its own CPUs; a package without one is not judged."""
    for socket in (0, None):
        cpus = Cpus(sockets=2)
        meter = meter_of(Source(), cpus, "package", socket)
        cpus.work(5, socket=1)
        meter.read()
        assert stuck(meter) == 0


def test_work_is_judged_over_whole_intervals() -> None:
    """Readings within a long interval do not know its work yet."""
    source, cpus = Source(), Cpus()
    meter = meter_of(source, cpus)
    account = cpus()
    meter._busy = lambda: account  # noqa: SLF001 - the loop closes its interval later
    for _ in range(5):
        cpus.work(2)
        source.energy_uj += 1
        meter.read()
    account = cpus()
    meter.read()
    assert stuck(meter) == 0


def test_still_file_is_opened_anew_and_a_still_event_is_not() -> None:
    """Another file may have its path meanwhile; an event would lose its count."""
    for source, openings in ((Source(), 2), (Source(counts_from_opening=True), 1)):
        cpus = Cpus()
        meter = meter_of(source, cpus, "uncore")
        for _ in range(2):
            cpus.work(2, share=0)
            meter.read()
        assert source.openings == openings
