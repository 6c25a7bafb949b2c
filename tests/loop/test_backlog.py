"""Zones that fail for a while: their energy comes late, and to those who ran meanwhile."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import record

from kepler_ebpf.attribution import attribute
from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.loop import backlog
from kepler_ebpf.loop.backlog import Backlog, Due
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import MeterReading, Zone
from kepler_ebpf.model.usage import SocketTime, Usage

ZONES = (Zone("package", 0, "/package"), Zone("dram", 0, "/dram"), Zone("psys", None, "/psys"))
PACKAGE, DRAM, PSYS = range(3)
SECOND_NS = 1_000_000_000
CPUS = 2


@dataclass(frozen=True)
class Step:
    """An interval: which process ran and how long, what each zone drew, which can be read.

    ``gap``: what the zone drew before this interval, and was not read yet, is lost.
    """

    pid: int = 1
    cpu_ns: int = SECOND_NS
    drawn_uj: tuple[float, ...] = (10.0, 20.0, 40.0)
    valid: tuple[bool, ...] = (True, True, True)
    gap: tuple[bool, ...] = (False, False, False)


class World:
    """A backlog, and counters that go on rising whether they can be read or not."""

    def __init__(self) -> None:
        self.true_uj = np.full(len(ZONES), 1e6)
        self.gaps = np.zeros(len(ZONES), np.int64)
        self.shown_uj = self.true_uj.copy()
        self.start_uj = self.true_uj.copy()
        self.backlog = Backlog(first_reading(self.shown_uj))

    def settle(self, step: Step) -> list[Due]:
        """Let an interval pass, and return what is to be shared at its end."""
        valid = np.array(step.valid)
        self.true_uj = np.where(step.gap, self.shown_uj, self.true_uj) + step.drawn_uj
        self.shown_uj = np.where(valid, self.true_uj, self.shown_uj)
        self.gaps = self.gaps + step.gap
        given = MeterReading(0, self.shown_uj.copy(), valid, self.gaps)
        return list(self.backlog.settle(usage_of(step), given))

    @property
    def unknown(self) -> list[bool]:
        """Whether it is not known what each zone drew in the last interval."""
        return list(self.backlog.unknown.tolist())


def first_reading(energy_uj: Floats) -> MeterReading:
    """Return what a meter gives at the start."""
    return MeterReading(
        0, energy_uj.copy(), np.ones(len(ZONES), np.bool_), np.zeros(len(ZONES), np.int64)
    )


def usage_of(step: Step) -> Usage:
    """Return the account of a second in which one process ran on a host of two CPUs."""
    tasks = record(step.pid, step.cpu_ns) if step.cpu_ns else np.zeros(0, TASK)
    busy = np.array([step.cpu_ns])
    idle = np.array([CPUS * SECOND_NS - step.cpu_ns])
    sockets = SocketTime(busy + idle, busy, idle, np.zeros(1, np.int64))
    return Usage(0, SECOND_NS, CPUS * SECOND_NS, tasks, sockets)


def fails(*zones: int, pid: int = 1, cpu_ns: int = SECOND_NS) -> Step:
    """Return an interval at whose end these zones cannot be read."""
    return Step(pid, cpu_ns, valid=tuple(zone not in zones for zone in range(len(ZONES))))


def pids(due: Due) -> list[int]:
    """Return whose tasks a due is for."""
    return list(due.tasks["pid"].tolist())


steps = st.builds(
    Step,
    pid=st.integers(1, 5),
    cpu_ns=st.integers(0, CPUS * SECOND_NS),
    drawn_uj=st.tuples(*[st.floats(0, 1e9)] * len(ZONES)),
    valid=st.tuples(*[st.booleans()] * len(ZONES)),
    gap=st.tuples(*[st.booleans()] * len(ZONES)),
)


@given(st.lists(steps, max_size=40))
def test_energy_is_conserved(run: list[Step]) -> None:
    """What is given is what was read, zone by zone, whenever a zone could be read."""
    world, given_uj = World(), np.zeros(len(ZONES))
    for step in run:
        for due in world.settle(step):
            given_uj = given_uj + due.energy_uj
        np.testing.assert_allclose(given_uj, world.shown_uj - world.start_uj, rtol=1e-9, atol=1e-3)


@given(st.lists(steps, max_size=40))
def test_attribution_of_all_dues_is_conserved(run: list[Step]) -> None:
    """Shares, idle and unattributed energy of every due are all the energy there was."""
    world = World()
    placed_uj = 0.0
    for step in (*run, Step()):
        for due in world.settle(step):
            shared = attribute(due.tasks, due.sockets, ZONES, due.energy_uj)
            placed_uj += shared.shares_uj.sum()
            placed_uj += (shared.idle_uj + shared.unattributed_uj).sum()
    assert placed_uj == pytest.approx((world.true_uj - world.start_uj).sum(), rel=1e-9, abs=1e-3)


@given(st.lists(steps, max_size=40))
def test_late_energy_is_for_all_who_ran_since_the_last_reading(run: list[Step]) -> None:
    """A zone's energy goes to exactly the intervals that it covers, after a gap to the last."""
    world, since = World(), dict.fromkeys(range(len(ZONES)), 0)
    for at, step in enumerate(run):
        for due in world.settle(step):
            for zone in np.flatnonzero(due.energy_uj).tolist():
                covered = run[since[zone] : at + 1]
                if any(each.gap[zone] for each in covered):
                    covered = [step]
                assert pids(due) == [each.pid for each in covered if each.cpu_ns]
                assert due.sockets.window_ns.sum() == len(covered) * CPUS * SECOND_NS
        since |= {zone: at + 1 for zone in range(len(ZONES)) if step.valid[zone]}


def test_all_zones_read_is_one_due() -> None:
    """In the usual case there is nothing but the interval itself."""
    world = World()
    (due,) = world.settle(Step(pid=7))
    assert (pids(due), due.late) == ([7], False)
    assert due.energy_uj.tolist() == [10.0, 20.0, 40.0]


def test_failing_zone_gives_nothing_until_it_is_back() -> None:
    """The others go on, and the one that failed pays once for all of the time."""
    world = World()
    (first,) = world.settle(fails(DRAM, pid=1))
    assert first.energy_uj.tolist() == [10.0, 0.0, 40.0]
    world.settle(fails(DRAM, pid=2))
    now, late = world.settle(Step(pid=3))
    assert now.energy_uj.tolist() == [10.0, 0.0, 40.0]
    assert (pids(now), now.late) == ([3], False)
    assert late.energy_uj.tolist() == [0.0, 60.0, 0.0]
    assert (pids(late), late.late) == ([1, 2, 3], True)


def test_zone_that_is_back_is_on_time_again() -> None:
    """After it has paid, it owes nothing."""
    world = World()
    for step in (fails(DRAM), Step()):
        world.settle(step)
    assert not world.backlog.may_pay
    (due,) = world.settle(Step(pid=9))
    assert pids(due) == [9]
    assert due.energy_uj.tolist() == [10.0, 20.0, 40.0]


def test_tasks_of_before_a_gap_are_paid_nothing() -> None:
    """What was drawn while they waited is in no figure: what comes after it is not theirs."""
    world = World()
    world.settle(fails(DRAM, pid=1))
    (due,) = world.settle(Step(pid=2, gap=(False, True, False)))
    assert (pids(due), due.late) == ([2], False)
    assert due.energy_uj.tolist() == [10.0, 20.0, 40.0]
    assert not world.backlog.may_pay


def test_what_a_zone_drew_is_unknown_where_it_failed_or_has_a_gap() -> None:
    """Only in that interval, and only that zone."""
    world = World()
    world.settle(fails(DRAM))
    assert world.unknown == [False, True, False]
    world.settle(Step(gap=(True, False, False)))
    assert world.unknown == [True, False, False]
    world.settle(Step())
    assert world.unknown == [False, False, False]


def test_zones_that_failed_at_other_times_pay_for_their_own() -> None:
    """Each has the tasks since its own last reading."""
    world = World()
    world.settle(fails(DRAM, pid=1))
    world.settle(fails(DRAM, PSYS, pid=2))
    _, *late = world.settle(Step(pid=3))
    paid = {int(np.flatnonzero(due.energy_uj)[0]): (pids(due), due.energy_uj.sum()) for due in late}
    assert paid == {PSYS: ([2, 3], 80.0), DRAM: ([1, 2, 3], 60.0)}


def test_late_energy_is_shared_by_cpu_time() -> None:
    """Who ran three times as long meanwhile gets three times as much."""
    world = World()
    world.settle(fails(DRAM, pid=1, cpu_ns=SECOND_NS))
    _, late = world.settle(Step(pid=2, cpu_ns=SECOND_NS // 3))
    shares_uj = attribute(late.tasks, late.sockets, ZONES, late.energy_uj).shares_uj[:, DRAM]
    assert shares_uj[0] == pytest.approx(3 * shares_uj[1])


def test_energy_after_a_very_long_time_has_no_owner() -> None:
    """Tasks are not kept for ever: the joules are still given, to nobody."""
    world = World()
    for _ in range(backlog.MAX_INTERVALS):
        world.settle(fails(DRAM))
        assert world.backlog.may_pay
    world.settle(fails(DRAM))
    assert not world.backlog.may_pay
    _, late = world.settle(Step())
    assert pids(late) == []
    assert late.energy_uj[DRAM] == pytest.approx(20.0 * (backlog.MAX_INTERVALS + 2))
    shared = attribute(late.tasks, late.sockets, ZONES, late.energy_uj)
    assert shared.unattributed_uj[DRAM] == pytest.approx(shared.active_uj[DRAM])


def test_kept_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where very many tasks run, fewer intervals are kept."""
    monkeypatch.setattr(backlog, "MAX_RECORDS", 3)
    world = World()
    for pid in range(1, 6):
        world.settle(fails(DRAM, pid=pid))
    _, late = world.settle(Step(pid=6))
    assert pids(late) == []
