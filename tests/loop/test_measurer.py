"""Intervals from the real kernel beside a meter whose zones fail: energy may come late."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trackers import LOADERS, opened

from kepler_ebpf.attribution import attribute
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.measurer import MAX_EXTENSIONS, Measurer
from kepler_ebpf.model.energy import MeterReading, MeterStats, Zone
from kepler_ebpf.model.usage import Interval

ZONES = (Zone("package", 0, "/package"), Zone("dram", 0, "/dram"))
ALL_VALID = (True, True)
DRAM_FAILS = (True, False)


class FailingMeter:
    """A meter of two zones, whose energy a test decides, and which of them can be read."""

    zones, max_wait_s = ZONES, 1e9
    stats = MeterStats("test", is_estimate=False)

    def __init__(self) -> None:
        self.true_uj = [1e6, 2e6]
        self.shown_uj = list(self.true_uj)
        self.valid = ALL_VALID
        self.gaps = (0, 0)

    def draw(self, package_uj: float, dram_uj: float) -> None:
        self.true_uj = [self.true_uj[0] + package_uj, self.true_uj[1] + dram_uj]

    def read(self) -> MeterReading:
        pairs = zip(self.valid, self.true_uj, self.shown_uj, strict=True)
        self.shown_uj = [true if valid else shown for valid, true, shown in pairs]
        return MeterReading(tuple(self.shown_uj), self.valid, self.gaps)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tracker() -> Iterator[CpuTimeTracker]:
    """Give a running tracker."""
    with opened(LOADERS[0]) as shared:
        yield shared


@pytest.fixture
def meter() -> FailingMeter:
    """Return a meter that can be read."""
    return FailingMeter()


@pytest.fixture
def measurer(tracker: CpuTimeTracker, meter: FailingMeter) -> Measurer:
    """Return a measurer of the real tracker with that meter, whose interval is new."""
    Measurer(tracker, meter).measure(0)
    tracker.take_records(tracker.pending_records)
    return Measurer(tracker, meter)


def step(
    measurer: Measurer, meter: FailingMeter, valid: tuple[bool, bool] = ALL_VALID
) -> Interval | None:
    """Let both zones draw, 10 and 20 µJ, and measure."""
    meter.draw(10, 20)
    meter.valid = valid
    return measurer.measure(0)


def test_interval_has_what_each_zone_drew(measurer: Measurer, meter: FailingMeter) -> None:
    """The first reading is a baseline; every interval has the difference to the last."""
    for _ in range(2):
        interval = step(measurer, meter)
        assert interval
        assert list(interval.energy_uj) == [10, 20]
        assert interval.unread == interval.unowned == (False, False)


def test_interval_adds_up_to_the_clock(measurer: Measurer, meter: FailingMeter) -> None:
    """Tasks, idle and lost time are the CPU time that passed, in each interval of a batch."""
    for _ in range(5):
        step(measurer, meter)
    measured = measurer.take()
    for index, interval in enumerate(measured.intervals):
        usage = interval.usage
        tasks_ns = int(measured.records["cpu_ns"][measured.interval_of == index].sum())
        others_ns = sum(usage.sockets.idle_ns) + sum(usage.sockets.lost_ns)
        assert tasks_ns + others_ns == pytest.approx(usage.wall_ns, rel=1e-3)
        assert (measured.interval_of == index).sum() == usage.record_count


def test_intervals_follow_each_other(measurer: Measurer, meter: FailingMeter) -> None:
    """One ends where the next begins."""
    made = [step(measurer, meter) for _ in range(3)]
    ends = [interval.usage.end_ns for interval in made if interval]
    starts = [interval.usage.start_ns for interval in made if interval]
    assert starts[1:] == ends[:-1]


def test_failing_zone_makes_the_interval_longer(measurer: Measurer, meter: FailingMeter) -> None:
    """Nothing is given out meanwhile; then all zones have their energy for all who ran."""
    assert step(measurer, meter, DRAM_FAILS) is None
    assert step(measurer, meter, DRAM_FAILS) is None
    interval = step(measurer, meter)
    assert interval
    assert list(interval.energy_uj) == [30, 60]
    assert interval.unread == interval.unowned == (False, False)
    measured = measurer.take()
    assert len(measured.records) == interval.usage.record_count


def test_records_of_a_running_interval_stay_with_it(
    measurer: Measurer, meter: FailingMeter
) -> None:
    """What was taken before it ended has none of them."""
    first = step(measurer, meter)
    step(measurer, meter, DRAM_FAILS)
    assert first
    assert len(measurer.take().records) == first.usage.record_count
    second = step(measurer, meter)
    assert second
    assert len(measurer.take().records) == second.usage.record_count


def test_zone_that_stays_away_delays_nobody_for_long(
    measurer: Measurer, meter: FailingMeter
) -> None:
    """After a few intervals the others go on; its later energy of that time has no owner."""
    for _ in range(MAX_EXTENSIONS):
        assert step(measurer, meter, DRAM_FAILS) is None
    longer = step(measurer, meter, DRAM_FAILS)
    usual = step(measurer, meter, DRAM_FAILS)
    back = step(measurer, meter)
    assert longer
    assert usual
    assert back
    assert list(longer.energy_uj) == [10 * (MAX_EXTENSIONS + 1), 0]
    assert list(usual.energy_uj) == [10, 0]
    assert longer.unread == usual.unread == (False, True)
    assert list(back.energy_uj) == [10, 20 * (MAX_EXTENSIONS + 3)]
    assert (back.unread, back.unowned) == ((False, True), (False, True))
    after = step(measurer, meter)
    assert after
    assert after.unread == after.unowned == (False, False)


def test_energy_of_a_gap_is_unread_once(measurer: Measurer, meter: FailingMeter) -> None:
    """What a zone drew is not known whole in the interval of a gap, and known in the next."""
    meter.gaps = (0, 1)
    gap, after = step(measurer, meter), step(measurer, meter)
    assert gap
    assert after
    assert (gap.unread, gap.unowned) == ((False, True), (False, False))
    assert after.unread == (False, False)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_microjoule_read_is_in_one_interval(
    tracker: CpuTimeTracker, valids: list[tuple[bool, bool]]
) -> None:
    """However zones fail, what was read is given out once, with a place for all of it."""
    meter = FailingMeter()
    measurer = Measurer(tracker, meter)
    for valid in (*valids, ALL_VALID):
        step(measurer, meter, valid)
    measured = measurer.take()
    drawn_uj = np.sum([interval.energy_uj for interval in measured.intervals], axis=0)
    np.testing.assert_allclose(drawn_uj, [10 * (len(valids) + 1), 20 * (len(valids) + 1)])
    shared = attribute(measured, ZONES)
    placed_uj = shared.shares_uj.sum() + shared.idle_uj.sum() + shared.unattributed_uj.sum()
    assert placed_uj == pytest.approx(30 * (len(valids) + 1), rel=1e-9)
