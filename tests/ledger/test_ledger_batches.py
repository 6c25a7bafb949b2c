"""Intervals credited one by one or many at once, whole or in parts, give the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import KEEP_ALL, World, by, container, everything, record

from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import State

CGROUPS = {
    1: CgroupName("/"),
    2: CgroupName("/a", container("a", "p")),
    3: CgroupName("/b", container("b", "p")),
}

records = st.builds(
    record,
    pid=st.integers(1, 5),
    start=st.sampled_from([100, 200]),
    cgroup_id=st.sampled_from(list(CGROUPS)),
    cpu_ns=st.integers(0, 10**9),
    exec_id=st.integers(0, 2),
    process_comm=st.sampled_from([b"sh", b"work"]),
    ended=st.booleans(),
)
runs = st.lists(st.lists(records, max_size=6), min_size=1, max_size=8)


def played(intervals, sizes) -> World:
    """Return a world in which *intervals* were credited in batches of these sizes."""
    world = World()
    world.names.cgroups = CGROUPS
    left = list(intervals)
    for size in sizes:
        if left:
            world.batch(*left[:size])
            left = left[size:]
    if left:
        world.batch(*left)
    return world


def totals(view, attribute):
    """Return the energy and the CPU time of rows, summed by an attribute of their labels."""
    sums: dict[str, np.ndarray] = {}
    for row, label in enumerate(view.labels):
        if label:
            key = getattr(label, attribute)
            sums[key] = sums.get(key, 0) + np.append(view.energy_uj[row], view.cpu_ns[row])
    return sums


@given(runs, st.lists(st.integers(1, 4)))
def test_totals_do_not_depend_on_batches(intervals, sizes):
    """However a run is split, each level and each container has the same total."""
    one, many = played(intervals, []), played(intervals, sizes)
    for level, attribute in (
        ("process", "container_id"),
        ("container", "container_id"),
        ("pod", "pod_id"),
    ):
        first = totals(one.ledger.views()[level], attribute)
        second = totals(many.ledger.views()[level], attribute)
        assert first.keys() == second.keys()
        for key, sums in first.items():
            np.testing.assert_allclose(sums, second[key], rtol=1e-9)
    np.testing.assert_allclose(one.ledger.node(1.0).energy_uj, many.ledger.node(1.0).energy_uj)


@given(runs, st.lists(st.integers(1, 4)))
def test_the_last_interval_does_not_depend_on_batches(intervals, sizes):
    """Views show what the last interval used, by container, and the node's energy of it."""
    one, many = played(intervals, []), played(intervals, sizes)
    ran_ns = sum(int(each["cpu_ns"][0]) for each in intervals[-1])
    for world in (one, many):
        assert world.processes.ran_uj[:, 0].sum() == pytest.approx(ran_ns)
        assert world.ledger.node(1.0).interval_active_uj[0] == pytest.approx(ran_ns + 10)


@given(runs, st.lists(st.integers(1, 4)))
def test_who_lives_and_moves_nowhere_is_the_same_however_it_is_split(intervals, sizes):
    """Processes that stay what they are have their own total in each split."""
    fields = ("exec_id", "process_comm", "flags", "process_start_ns")
    for tasks in (task for now in intervals for task in now):
        for field in fields:
            tasks[field] = np.zeros(1, tasks.dtype)[field]
        tasks["cgroup_id"] = 1 + tasks["tgid"] % 3
    one, many = played(intervals, []), played(intervals, sizes)
    first, second = by(one.processes, "pid"), by(many.processes, "pid")
    assert first.keys() == second.keys()
    for pid, (uj, cpu_ns, state) in first.items():
        assert second[pid][0] == pytest.approx(uj)
        assert second[pid][1:] == (cpu_ns, state)


def test_the_last_closed_interval_is_shown_with_its_earlier_parts():
    """A reader in between measures a part: until the interval ends, the one before is shown."""
    world = World()
    world.interval(record(cpu_ns=1))
    world.credit(record(cpu_ns=10))
    world.credit(record(cpu_ns=100))
    assert by(world.processes, "pid")[10] == (111.0, 111, State.RUNNING)
    assert world.processes.ran_uj[:, 0].tolist() == [1.0]
    assert world.ledger.node(1.0).interval_active_uj[0] == 11.0
    world.interval(record(cpu_ns=1_000))
    assert world.processes.ran_uj[:, 0].tolist() == [1_110.0]
    assert world.ledger.node(1.0).interval_active_uj[0] == 1_140.0
    world.interval()
    assert world.processes.ran_uj.tolist() == []


def test_before_an_interval_has_closed_everything_is_shown():
    """A reader that comes early sees what was used since start."""
    world = World()
    world.credit(record(cpu_ns=10))
    world.credit(record(cpu_ns=100))
    assert world.processes.ran_uj[:, 0].tolist() == [110.0]
    assert world.ledger.node(1.0).interval_active_uj[0] == 130.0


def test_an_open_interval_may_follow_closed_ones_in_a_batch():
    """Its records count in totals, and are shown with the rest of it."""
    world = World()
    world.batch([record(cpu_ns=1)], [record(cpu_ns=10)])
    world.credit(record(cpu_ns=100))
    assert world.processes.ran_uj[:, 0].tolist() == [10.0]
    assert everything(world.processes)[1] == 111


def test_a_removed_cgroup_waits_for_intervals_not_for_batches():
    """Readers that come often do not shorten the time in which last slices may come."""
    world = World()
    world.names.cgroups[2] = CGROUPS[2]
    world.interval(record(cgroup_id=2))
    world.ledger.ended_cgroups([2])
    for _ in range(9):
        world.credit()
    world.interval(record(cgroup_id=2, cpu_ns=5, ended=True))
    assert by(world.containers, "container_id") == {"a": (1_005.0, 1_005, State.TERMINATED)}
    assert world.names.asked.count(("cgroup", 2)) == 1


def test_a_process_may_do_everything_in_one_batch():
    """Exec, an end, and a second life of its pid are told apart by interval and exec."""
    world = World(KEEP_ALL)
    world.batch(
        [record(start=100, exec_id=1, process_comm=b"sh", cpu_ns=900)],
        [record(start=100, exec_id=2, process_comm=b"make", cpu_ns=1)],
        [record(start=100, exec_id=2, process_comm=b"cc", cpu_ns=50)],
        [record(start=100, exec_id=2, process_comm=b"make", cpu_ns=2, ended=True)],
        [record(start=200, exec_id=2, process_comm=b"ls", cpu_ns=7)],
    )
    assert by(world.processes, "comm") == {
        "make": (953.0, 953, State.TERMINATED),
        "ls": (7.0, 7, State.RUNNING),
    }
