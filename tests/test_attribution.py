"""The energy of an interval is split and shared with nothing lost and nothing invented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import SocketTime

SOCKETS = 2
PACKAGE_0 = Zone("package", 0, "/package-0")
PACKAGE_1 = Zone("package", 1, "/package-1")
PSYS = Zone("psys", None, "/psys")
ZONES = (PACKAGE_0, PACKAGE_1, Zone("dram", 0, "/dram-0"), Zone("dram", 1, "/dram-1"), PSYS)

cpu_times_ns = st.integers(0, 10**12)
energies_uj = st.one_of(st.just(0.0), st.floats(1e-3, 1e12))


def tasks_of(*pairs):
    """Return one record for each (socket, cpu_ns)."""
    tasks = np.zeros(len(pairs), TASK)
    for place, (socket, cpu_ns) in enumerate(pairs):
        tasks[place]["socket"], tasks[place]["cpu_ns"] = socket, cpu_ns
    return tasks


def sockets_of(busy_ns, idle_ns, lost_ns=(0, 0)):
    """Return the time of two sockets."""
    busy, idle, lost = (np.array(each, np.int64) for each in (busy_ns, idle_ns, lost_ns))
    return SocketTime(window_ns=busy + idle, busy_ns=busy, idle_ns=idle, lost_ns=lost)


@st.composite
def intervals(draw):
    """Draw tasks and the sockets' time that goes with them, and an energy for each zone."""
    pairs = draw(st.lists(st.tuples(st.integers(0, SOCKETS - 1), cpu_times_ns), max_size=20))
    per_socket = st.tuples(*[cpu_times_ns] * SOCKETS)
    lost_ns, idle_ns, hidden_ns = draw(per_socket), draw(per_socket), draw(per_socket)
    tasks = tasks_of(*pairs)
    owned_ns = [int(tasks["cpu_ns"][tasks["socket"] == socket].sum()) for socket in (0, 1)]
    busy_ns = np.add(np.add(owned_ns, lost_ns), hidden_ns)
    energy_uj = np.array(draw(st.tuples(*[energies_uj] * len(ZONES))))
    return tasks, sockets_of(busy_ns, idle_ns, lost_ns), energy_uj


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
    tasks, sockets, energy_uj = interval
    result = attribute(tasks, sockets, ZONES, energy_uj)
    given_uj = result.shares_uj.sum(axis=0) + by_kind(result.unattributed_uj)
    np.testing.assert_allclose(given_uj, by_kind(result.active_uj), rtol=1e-9)


@given(intervals())
def test_active_and_idle_are_the_zone_energy(interval):
    """For each zone active and idle add up to the energy it drew."""
    tasks, sockets, energy_uj = interval
    result = attribute(tasks, sockets, ZONES, energy_uj)
    np.testing.assert_allclose(result.active_uj + result.idle_uj, energy_uj, rtol=1e-9)


@given(intervals())
def test_nothing_is_negative(interval):
    """No task, and no part of a zone, is ever given less than nothing."""
    tasks, sockets, energy_uj = interval
    result = attribute(tasks, sockets, ZONES, energy_uj)
    parts = (result.shares_uj, result.active_uj, result.idle_uj, result.unattributed_uj)
    assert all((part >= 0).all() for part in parts)


@given(intervals(), st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter(interval, random):
    """Shuffled tasks get the shares they got before."""
    tasks, sockets, energy_uj = interval
    order = list(range(len(tasks)))
    random.shuffle(order)
    before = attribute(tasks, sockets, ZONES, energy_uj).shares_uj
    after = attribute(tasks[order], sockets, ZONES, energy_uj).shares_uj
    np.testing.assert_allclose(after, before[order], rtol=1e-9)


@given(intervals())
def test_lost_time_takes_its_own_share(interval):
    """What lost time is worth stays unattributed: no task's rate is above that of busy time."""
    tasks, sockets, energy_uj = interval
    result = attribute(tasks, sockets, (PSYS,), energy_uj[-1:])
    owner_share = sockets.lost_ns.sum() / max(1, sockets.busy_ns.sum())
    assert result.unattributed_uj[0] >= result.active_uj[0] * owner_share * (1 - 1e-9)


def test_tasks_share_by_cpu_time():
    """Of one socket's active energy a task that ran three times as long gets three times more."""
    sockets = sockets_of(busy_ns=(400, 0), idle_ns=(400, 0))
    result = attribute(tasks_of((0, 300), (0, 100)), sockets, (PACKAGE_0,), np.array([80.0]))
    assert result.shares_uj.tolist() == [[30.0], [10.0]]
    assert result.idle_uj.tolist() == [40.0]


@given(intervals())
def test_a_task_never_pays_for_another_socket(interval):
    """Tasks on socket 1 get nothing of the energy of the zones of socket 0."""
    tasks, sockets, energy_uj = interval
    zones = (PACKAGE_0, Zone("dram", 0, "/dram-0"))
    shares_uj = attribute(tasks, sockets, zones, energy_uj[[0, 2]]).shares_uj
    assert (shares_uj[tasks["socket"] == 1] == 0).all()


def test_a_zone_of_the_whole_node_is_shared_by_all():
    """The energy of a zone without a socket goes to the tasks of every socket alike."""
    sockets = sockets_of(busy_ns=(100, 300), idle_ns=(0, 0))
    result = attribute(tasks_of((0, 100), (1, 300)), sockets, (PSYS,), np.array([40.0]))
    assert result.shares_uj.tolist() == [[10.0], [30.0]]


def test_sockets_of_a_kind_are_one_column():
    """A column of the shares is a kind, whichever socket's zone it came from."""
    sockets = sockets_of(busy_ns=(100, 100), idle_ns=(0, 0))
    result = attribute(tasks_of((0, 100), (1, 100)), sockets, ZONES, np.arange(1.0, 6.0))
    assert result.kinds == ("package", "dram", "psys")
    assert result.shares_uj.tolist() == [[1.0, 3.0, 2.5], [2.0, 4.0, 2.5]]


def test_lost_time_is_not_spread_over_the_tasks():
    """A task that used half of the busy time gets half, though it is the only one known."""
    sockets = sockets_of(busy_ns=(200, 0), idle_ns=(0, 0), lost_ns=(100, 0))
    result = attribute(tasks_of((0, 100)), sockets, (PACKAGE_0,), np.array([80.0]))
    assert result.shares_uj.tolist() == [[40.0]]
    assert result.unattributed_uj.tolist() == [40.0]


def test_busy_time_without_a_task_is_unattributed():
    """A socket that was busy and has no task keeps its active energy unattributed."""
    sockets = sockets_of(busy_ns=(60, 0), idle_ns=(40, 0))
    result = attribute(tasks_of(), sockets, (PACKAGE_0,), np.array([100.0]))
    assert result.active_uj.tolist() == result.unattributed_uj.tolist() == [60.0]
    assert result.shares_uj.shape == (0, 1)


def test_no_cpu_time_at_all_is_idle():
    """A socket whose window is zero, being offline, draws idle energy only."""
    sockets = sockets_of(busy_ns=(0, 100), idle_ns=(0, 0))
    result = attribute(tasks_of((1, 100)), sockets, (PACKAGE_0,), np.array([33.0]))
    assert (result.active_uj[0], result.idle_uj[0]) == (0.0, 33.0)
    assert result.shares_uj.tolist() == [[0.0]]


def test_a_late_slice_does_not_give_energy_away_twice():
    """Tasks with more time than their socket was busy share its active energy and no more."""
    sockets = sockets_of(busy_ns=(100, 0), idle_ns=(0, 0))
    result = attribute(tasks_of((0, 90), (0, 30)), sockets, (PACKAGE_0,), np.array([100.0]))
    np.testing.assert_allclose(result.shares_uj[:, 0], [75.0, 25.0])
    assert result.unattributed_uj.tolist() == [0.0]


def test_a_zone_of_a_socket_that_is_not_there_is_refused():
    """A zone that names a third socket on a node of two is an error that names both."""
    zones = (Zone("package", 2, "/package-2"),)
    sockets = sockets_of(busy_ns=(1, 1), idle_ns=(0, 0))
    with pytest.raises(ValueError, match="/package-2 measures socket 2, the node has 2"):
        attribute(tasks_of(), sockets, zones, np.array([1.0]))
