"""The energy of an interval is split and shared with nothing lost and nothing invented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from intervals import interval_of, measured_of, tasks_of

from kepler_ebpf.attribution import attribute, residual_ratio, zone_kinds
from kepler_ebpf.model.energy import Zone

SOCKETS = 2
PACKAGE_0 = Zone("package", 0, "/package-0")
PACKAGE_1 = Zone("package", 1, "/package-1")
PSYS = Zone("psys", None, "/psys")
ZONES = (PACKAGE_0, PACKAGE_1, Zone("dram", 0, "/dram-0"), Zone("dram", 1, "/dram-1"), PSYS)

cpu_times_ns = st.integers(0, 10**12)
energies_uj = st.one_of(st.just(0.0), st.floats(1e-3, 1e12))


def share(tasks, zones, energy_uj, times, unowned=None):
    """Attribute one interval; *times* are the busy, idle and lost ns of its sockets."""
    busy_ns, idle_ns, lost_ns = times
    interval = interval_of(energy_uj, busy_ns, idle_ns, lost_ns, unowned)
    return attribute(measured_of((tasks, interval)), zones)


@st.composite
def intervals(draw):
    """Draw tasks and the sockets' time that goes with them, and an energy for each zone."""
    pairs = draw(st.lists(st.tuples(st.integers(0, SOCKETS - 1), cpu_times_ns), max_size=20))
    per_socket = st.tuples(*[cpu_times_ns] * SOCKETS)
    lost_ns, idle_ns, hidden_ns = draw(per_socket), draw(per_socket), draw(per_socket)
    tasks = tasks_of(*pairs)
    owned_ns = [sum(ns for at, ns in pairs if at == socket) for socket in range(SOCKETS)]
    busy_ns = [sum(each) for each in zip(owned_ns, lost_ns, hidden_ns, strict=True)]
    return tasks, (busy_ns, idle_ns, lost_ns), draw(st.tuples(*[energies_uj] * len(ZONES)))


def by_kind(figures):
    """Sum the figures of the zones by kind, in the order of the shares' columns."""
    kinds = zone_kinds(ZONES)
    return np.array(
        [
            sum(uj for zone, uj in zip(ZONES, figures, strict=True) if zone.kind == kind)
            for kind in kinds
        ]
    )


@given(intervals())
def test_shares_and_unattributed_are_the_active_energy(interval):
    """For each kind the tasks' shares and the unattributed rest add up to what was active."""
    tasks, times, energy_uj = interval
    result = share(tasks, ZONES, energy_uj, times)
    given_uj = result.shares_uj.sum(axis=0) + by_kind(result.unattributed_uj[0])
    np.testing.assert_allclose(given_uj, by_kind(result.active_uj[0]), rtol=1e-9)


@given(intervals())
def test_active_and_idle_are_the_zone_energy(interval):
    """For each zone active and idle add up to the energy it drew."""
    tasks, times, energy_uj = interval
    result = share(tasks, ZONES, energy_uj, times)
    np.testing.assert_allclose((result.active_uj + result.idle_uj)[0], energy_uj, rtol=1e-9)


@given(intervals())
def test_nothing_is_negative(interval):
    """No task, and no part of a zone, is ever given less than nothing."""
    tasks, times, energy_uj = interval
    result = share(tasks, ZONES, energy_uj, times)
    parts = (result.shares_uj, result.active_uj, result.idle_uj, result.unattributed_uj)
    assert all((part >= 0).all() for part in parts)


@given(intervals(), st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter(interval, random):
    """Shuffled tasks get the shares they got before."""
    tasks, times, energy_uj = interval
    order = list(range(len(tasks)))
    random.shuffle(order)
    before = share(tasks, ZONES, energy_uj, times).shares_uj
    after = share(tasks[order], ZONES, energy_uj, times).shares_uj
    np.testing.assert_allclose(after, before[order], rtol=1e-9)


@given(intervals())
def test_lost_time_takes_its_own_share(interval):
    """What lost time is worth stays unattributed: no task's rate is above that of busy time."""
    tasks, times, energy_uj = interval
    result = share(tasks, (PSYS,), energy_uj[-1:], times)
    owner_share = sum(times[2]) / max(1, sum(times[0]))
    assert result.unattributed_uj[0, 0] >= result.active_uj[0, 0] * owner_share * (1 - 1e-9)


def test_tasks_share_by_cpu_time():
    """Of one socket's active energy a task that ran three times as long gets three times more."""
    times = ((400, 0), (400, 0), (0, 0))
    result = share(tasks_of((0, 300), (0, 100)), (PACKAGE_0,), [80.0], times)
    assert result.shares_uj.tolist() == [[30.0], [10.0]]
    assert result.idle_uj.tolist() == [[40.0]]


@given(intervals())
def test_a_task_never_pays_for_another_socket(interval):
    """Tasks on socket 1 get nothing of the energy of the zones of socket 0."""
    tasks, times, energy_uj = interval
    zones = (PACKAGE_0, Zone("dram", 0, "/dram-0"))
    shares_uj = share(tasks, zones, (energy_uj[0], energy_uj[2]), times).shares_uj
    assert (shares_uj[tasks["socket"] == 1] == 0).all()


def test_a_zone_of_the_whole_node_is_shared_by_all():
    """The energy of a zone without a socket goes to the tasks of every socket alike."""
    times = ((100, 300), (0, 0), (0, 0))
    result = share(tasks_of((0, 100), (1, 300)), (PSYS,), [40.0], times)
    assert result.shares_uj.tolist() == [[10.0], [30.0]]


def test_sockets_of_a_kind_are_one_column():
    """A column of the shares is a kind, whichever socket's zone it came from."""
    times = ((100, 100), (0, 0), (0, 0))
    result = share(tasks_of((0, 100), (1, 100)), ZONES, np.arange(1.0, 6.0), times)
    assert result.kinds == ("package", "dram", "psys")
    assert result.shares_uj.tolist() == [[1.0, 3.0, 2.5], [2.0, 4.0, 2.5]]


def test_lost_time_is_not_spread_over_the_tasks():
    """A task that used half of the busy time gets half, though it is the only one known."""
    times = ((200, 0), (0, 0), (100, 0))
    result = share(tasks_of((0, 100)), (PACKAGE_0,), [80.0], times)
    assert result.shares_uj.tolist() == [[40.0]]
    assert result.unattributed_uj.tolist() == [[40.0]]


def test_busy_time_without_a_task_is_unattributed():
    """A socket that was busy and has no task keeps its active energy unattributed."""
    times = ((60, 0), (40, 0), (0, 0))
    result = share(tasks_of(), (PACKAGE_0,), [100.0], times)
    assert result.active_uj.tolist() == result.unattributed_uj.tolist() == [[60.0]]
    assert result.shares_uj.shape == (0, 1)


def test_no_cpu_time_at_all_is_idle():
    """A socket whose window is zero, being offline, draws idle energy only."""
    times = ((0, 100), (0, 0), (0, 0))
    result = share(tasks_of((1, 100)), (PACKAGE_0,), [33.0], times)
    assert (result.active_uj[0, 0], result.idle_uj[0, 0]) == (0.0, 33.0)
    assert result.shares_uj.tolist() == [[0.0]]


def test_a_late_slice_does_not_give_energy_away_twice():
    """Tasks with more time than their socket was busy share its active energy and no more."""
    times = ((100, 0), (0, 0), (0, 0))
    result = share(tasks_of((0, 90), (0, 30)), (PACKAGE_0,), [100.0], times)
    np.testing.assert_allclose(result.shares_uj[:, 0], [75.0, 25.0])
    assert result.unattributed_uj.tolist() == [[0.0]]


def test_a_zone_of_a_socket_that_is_not_there_is_refused():
    """A zone that names a third socket on a node of two is an error that names both."""
    zones = (Zone("package", 2, "/package-2"),)
    times = ((1, 1), (0, 0), (0, 0))
    with pytest.raises(ValueError, match="/package-2 measures socket 2, the node has 2"):
        share(tasks_of(), zones, [1.0], times)


# --- several intervals ------------------------------------------------------------------------


@given(st.lists(intervals(), min_size=1, max_size=5))
def test_a_batch_is_its_intervals_one_by_one(several):
    """Every interval is attributed by itself, however many are attributed together."""
    made = [(tasks, interval_of(energy, *times)) for tasks, times, energy in several]
    together = attribute(measured_of(*made), ZONES)
    alone = [attribute(measured_of(one), ZONES) for one in made]
    for name in ("shares_uj", "active_uj", "idle_uj", "unattributed_uj"):
        expected = np.concatenate([getattr(each, name) for each in alone])
        np.testing.assert_array_equal(getattr(together, name), expected)


@given(st.lists(intervals(), min_size=1, max_size=5))
def test_attribution_leaves_no_residual(several):
    """What ``attribute`` makes of any intervals has a place for every microjoule."""
    measured = measured_of(
        *((tasks, interval_of(energy, *times)) for tasks, times, energy in several)
    )
    assert residual_ratio(measured, attribute(measured, ZONES), ZONES) <= 1e-9


def test_energy_that_has_no_place_is_a_residual():
    """Half of a kind's energy gone is a half, and the worst kind counts."""
    measured = measured_of((tasks_of((0, 60)), interval_of((20, 20, 10, 0, 0), (60, 0), (40, 0))))
    for energy_uj, ratio in (((20, 20, 20, 0, 0), 0.5), ((20, 30, 10, 0, 0), 0.2)):
        other = measured_of((tasks_of((0, 60)), interval_of(energy_uj, (60, 0), (40, 0))))
        assert residual_ratio(other, attribute(measured, ZONES), ZONES) == pytest.approx(ratio)


def test_energy_of_long_ago_has_no_owner():
    """It has an active and an idle part; no task of this interval is given any of it."""
    result = share(tasks_of((0, 50)), (PACKAGE_0,), [80.0], ((50, 0), (50, 0), (0, 0)), [True])
    assert result.shares_uj.tolist() == [[0.0]]
    assert result.unattributed_uj.tolist() == result.active_uj.tolist() == [[40.0]]
    assert result.idle_uj.tolist() == [[40.0]]
