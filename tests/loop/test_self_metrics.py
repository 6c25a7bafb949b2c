"""What the sampler says of itself: counts that only rise, and figures of the last interval."""

from dataclasses import dataclass, field
from unittest.mock import Mock

import numpy as np
import pytest
from ledger_world import record

from kepler_ebpf.attribution import attribute
from kepler_ebpf.kernel.libbpf import ProgramStats
from kepler_ebpf.loop.self_metrics import SelfMetrics, residual_ratio
from kepler_ebpf.loop.ticker import Tick
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import SocketTime, Usage

MS_NS = 1_000_000
NO_USE = (np.zeros(2), 0)
ZONES = (Zone("package", 0, "/package-0"), Zone("package", 1, "/package-1"), Zone("dram", 0, "/d"))


@dataclass
class Account:
    """The figures that a kernel account keeps of itself."""

    close_s: float = 0.001
    lost_ns: int = 5
    hidden_ns: int = 3
    overflow_ns: int = 6
    cgroup_events_lost: int = 7
    fill_ratio: float = 0.25
    asked: int = 0

    def stats(self) -> ProgramStats:
        self.asked += 1
        return ProgramStats(run_ns=100 * self.asked, run_count=self.asked, missed_count=2)


@dataclass
class Meter:
    """A meter's name and faults."""

    name: str = "rapl"
    is_estimate: bool = False
    errors: dict[tuple[str, str], int] = field(default_factory=dict)


@pytest.fixture
def book() -> SelfMetrics:
    """Return a book that nothing was noted in."""
    return SelfMetrics(Account(), Meter(), "core")  # type: ignore[arg-type]


def usage(cpu_ns: int, idle_ns: int, lost_ns: int, wall_ns: int) -> Usage:
    """Return an interval of two sockets in which one task ran on the first."""
    busy, idle, lost = (np.array([each, 0]) for each in (cpu_ns + lost_ns, idle_ns, lost_ns))
    sockets = SocketTime(window_ns=busy + idle, busy_ns=busy, idle_ns=idle, lost_ns=lost)
    return Usage(0, wall_ns, wall_ns, record(7, cpu_ns), sockets)


# --- counts -----------------------------------------------------------------------------------


def test_missed_ticks_add_up(book: SelfMetrics) -> None:
    """Every tick's misses count; the lateness is the last one's."""
    for tick in (Tick(0.5, missed=3), Tick(0.125, missed=1)):
        book.tick(tick)
    health = book.snapshot(NO_USE, 0.0)
    assert (health.missed_ticks, health.lateness_s) == (4, 0.125)


def test_wanted_tick_says_nothing_of_lateness(book: SelfMetrics) -> None:
    """A tick between two of the grid is not late, and does not hide that the last one was."""
    book.tick(Tick(0.5))
    book.tick(Tick(extra=True))
    assert book.snapshot(NO_USE, 0.0).lateness_s == 0.5


def test_own_use_is_passed_on(book: SelfMetrics) -> None:
    """CPU time and joules of our own are what the ledger says."""
    health = book.snapshot((np.array([3.0, 1.5]), 6 * MS_NS), 0.0)
    assert health.own_cpu_ns == 6 * MS_NS
    assert health.own_uj.tolist() == [3.0, 1.5]


def test_snapshot_tells_account_and_meter(book: SelfMetrics) -> None:
    """Their own figures are passed on, and later faults do not change what was told."""
    book.meter.errors["/package-0", "jump"] = 1
    book.failed_intervals = 2
    health = book.snapshot(NO_USE, 0.0625)
    book.meter.errors["/package-0", "jump"] = 9
    assert (health.close_s, health.lost_ns, health.overflow_ns) == (0.001, 5, 6)
    assert health.hidden_ns == 3
    assert (health.map_fill_ratio, health.work_s, health.failed_intervals) == (0.25, 0.0625, 2)
    assert (health.loader, health.meter_name, health.meter_is_estimate) == ("core", "rapl", False)
    assert health.meter_errors == {("/package-0", "jump"): 1}


def test_what_was_not_printed_is_told(book: SelfMetrics) -> None:
    """It is the printer's count, and none where nothing is printed."""
    assert book.snapshot(NO_USE, 0.0).stdout_dropped == 0
    book.printer = Mock(dropped=3)
    assert book.snapshot(NO_USE, 0.0).stdout_dropped == 3


def test_program_figures_are_read_seldom(book: SelfMetrics) -> None:
    """At a hundred intervals a second the kernel is not asked each time."""
    first, second = book.snapshot(NO_USE, 0.0), book.snapshot(NO_USE, 0.0)
    assert (first.bpf_run_ns, first.bpf_run_count, first.bpf_missed) == (100, 1, 2)
    assert second.bpf_run_count == 1


# --- does it add up? --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall_ns", "ratio"), [(100 * MS_NS, 0.0), (80 * MS_NS, 0.25), (125 * MS_NS, 0.2), (0, 1e8)]
)
def test_accounting_ratio_is_the_gap_to_the_clock(
    book: SelfMetrics, wall_ns: int, ratio: float
) -> None:
    """Task, idle and lost time are held against the time that passed, whichever is more."""
    book.interval(usage(cpu_ns=60 * MS_NS, idle_ns=30 * MS_NS, lost_ns=10 * MS_NS, wall_ns=wall_ns))
    health = book.snapshot(NO_USE, 0.0)
    assert health.accounting_ratio == pytest.approx(ratio)
    assert health.intervals == 1


def test_residual_is_the_worst_of_an_interval(book: SelfMetrics) -> None:
    """Late energy is attributed in the same interval, and must not hide what went wrong."""
    quiet = usage(cpu_ns=1, idle_ns=1, lost_ns=0, wall_ns=2)
    book.interval(quiet)
    for ratio in (0.25, 0.125):
        book.residual(ratio)
    assert book.snapshot(NO_USE, 0.0).residual_ratio == 0.25
    book.interval(quiet)
    book.residual(0.0)
    assert book.snapshot(NO_USE, 0.0).residual_ratio == 0.0


def test_nothing_is_left_over_by_attribution() -> None:
    """What ``attribute`` makes of an interval has no residual."""
    energy_uj = np.array([30.0, 20.0, 10.0])
    interval = usage(cpu_ns=60, idle_ns=30, lost_ns=10, wall_ns=100)
    shared = attribute(interval.tasks, interval.sockets, ZONES, energy_uj)
    assert residual_ratio(shared, energy_uj, ZONES) == pytest.approx(0.0, abs=1e-12)


def test_energy_that_is_nowhere_is_a_residual() -> None:
    """Half of a kind's energy gone is a half, and the worst kind counts."""
    interval = usage(cpu_ns=60, idle_ns=40, lost_ns=0, wall_ns=100)
    shared = attribute(interval.tasks, interval.sockets, ZONES, np.array([20.0, 20.0, 10.0]))
    assert residual_ratio(shared, np.array([20.0, 20.0, 20.0]), ZONES) == pytest.approx(0.5)
    assert residual_ratio(shared, np.array([20.0, 30.0, 10.0]), ZONES) == pytest.approx(0.2)
