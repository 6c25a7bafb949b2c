"""What the loop says of itself: counts that only rise, and ratios of the last batch."""

import pytest
from intervals import interval_of, measured_of, tasks_of

from kepler_ebpf.attribution import attribute
from kepler_ebpf.loop.self_metrics import SelfMetrics
from kepler_ebpf.loop.ticker import Tick, Wake
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Measured

MS_NS = 1_000_000
ZONES = (Zone("package", 0, "/package-0"), Zone("package", 1, "/package-1"), Zone("dram", 0, "/d"))
ENERGY_UJ = (30.0, 20.0, 10.0)


def measured(*walls_ns: int) -> Measured:
    """Return intervals of two sockets whose tasks, idle and lost time are 100 ms."""
    times = ((70 * MS_NS, 0), (30 * MS_NS, 0), (10 * MS_NS, 0))
    made = [
        (tasks_of((0, 60 * MS_NS)), interval_of(ENERGY_UJ, *times, wall_ns=wall_ns))
        for wall_ns in walls_ns
    ]
    return measured_of(*made)


def test_missed_ticks_add_up() -> None:
    """The misses of every tick count; the lateness is that of the last one."""
    metrics = SelfMetrics()
    for tick in (Tick(Wake.INTERVAL, 0.5, missed=3), Tick(Wake.INTERVAL, 0.125, missed=1)):
        metrics.tick(tick)
    assert (metrics.stats.missed_ticks, metrics.stats.lateness_s) == (4, 0.125)


@pytest.mark.parametrize(
    ("walls_ns", "ratio"),
    [
        ((100 * MS_NS,), 0.0),
        ((80 * MS_NS,), 0.25),
        ((100 * MS_NS, 125 * MS_NS, 100 * MS_NS), 0.2),
        ((0,), 1e8),
    ],
)
def test_accounting_ratio_is_the_worst_gap_to_the_clock(
    walls_ns: tuple[int, ...], ratio: float
) -> None:
    """Task, idle and lost time of each interval are held against the time that passed."""
    metrics, batch = SelfMetrics(), measured(*walls_ns)
    metrics.accounted(batch, attribute(batch, ZONES), ZONES)
    assert metrics.stats.accounting_ratio == pytest.approx(ratio)


def test_reading_changes_nothing() -> None:
    """The figures of the last batch stay until the next one."""
    metrics, batch = SelfMetrics(), measured(80 * MS_NS)
    metrics.accounted(batch, attribute(batch, ZONES), ZONES)
    assert metrics.stats == metrics.stats
    assert metrics.stats.residual_ratio <= 1e-9


def test_energy_without_a_place_is_a_residual() -> None:
    """A kind's energy that the attribution does not have shows in the figures."""
    metrics, batch = SelfMetrics(), measured(100 * MS_NS)
    other = measured_of((batch.records, interval_of((0, 0, 10), (70 * MS_NS, 0), (30 * MS_NS, 0))))
    metrics.accounted(batch, attribute(other, ZONES), ZONES)
    assert metrics.stats.residual_ratio == pytest.approx(1.0)
