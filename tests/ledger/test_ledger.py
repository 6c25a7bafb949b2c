"""Whatever is credited is at each level in exactly one place, and stays there."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import (
    KEEP_ALL,
    World,
    by,
    container,
    everything,
    listed,
    record,
    rows_of,
    totals_by_series,
    vm,
)

from kepler_ebpf.kernel.layout import FLAG_ENDED, TASK
from kepler_ebpf.ledger.ledger import Ledger, Retention
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import PodLabels, State

CGROUPS = {
    1: CgroupName("/"),
    2: CgroupName("/a", container("a", "pod-1")),
    3: CgroupName("/b", container("b", "pod-1")),
    4: CgroupName("/b/init", container("b", "pod-1")),
    5: CgroupName("/c", container("c", "pod-2")),
}
IN_CONTAINERS = [2, 3, 4, 5]

records = st.builds(
    record,
    pid=st.integers(1, 6),
    start=st.sampled_from([100, 100, 200, 300]),
    cgroup_id=st.sampled_from(list(CGROUPS)),
    cpu_ns=st.integers(0, 10**9),
    exec_id=st.integers(0, 2),
    process_comm=st.sampled_from([b"sh", b"work"]),
    ended=st.booleans(),
)
intervals = st.lists(
    st.tuples(
        st.lists(records, max_size=12), st.frozensets(st.sampled_from(list(CGROUPS)), max_size=2)
    ),
    max_size=8,
)
retentions = st.builds(
    Retention,
    for_s=st.sampled_from([0.0, 1.5, 100.0]),
    most=st.sampled_from([-1, 0, 1, 3]),
    min_uj=st.sampled_from([0.0, 3e8]),
)


def play(story, retention):
    """Yield the world after each interval of *story*, with all the records it had by then."""
    world, said = World(retention), [np.zeros(0, TASK)]
    world.names.cgroups = CGROUPS
    world.names.processes = {1: ProcessName("/qemu", vm("m")), 2: ProcessName("/qemu", vm("m"))}
    for records_now, removed in story:
        said += records_now
        world.ledger.ended_cgroups(removed)
        world.interval(*records_now)
        yield world, np.concatenate(said)


def assert_holds(view, records_said):
    """Assert that a level has the CPU time of the records and their energy."""
    energy_uj, cpu_ns = everything(view)
    said_ns = int(records_said["cpu_ns"].sum())
    assert cpu_ns == said_ns
    np.testing.assert_allclose(energy_uj, [said_ns, said_ns / 4.0], rtol=1e-9)


@given(intervals, retentions)
def test_every_level_holds_everything_credited(story, retention):
    """Processes and cgroups have all records; containers and pods those of their cgroups."""
    for world, said in play(story, retention):
        inside = said[np.isin(said["cgroup_id"], IN_CONTAINERS)]
        assert_holds(world.processes, said)
        assert_holds(world.cgroups, said)
        assert_holds(world.containers, inside)
        assert_holds(world.pods, inside)


@given(intervals, retentions)
def test_a_container_is_the_sum_of_its_processes(story, retention):
    """Whatever ran, moved, called exec and ended: those that are not listed have a row."""
    for world, _ in play(story, retention):
        energies_uj, times_ns = sums_by_container(world.processes)
        for container_id, (energy_uj, cpu_ns, _) in by(world.containers, "container_id").items():
            assert times_ns.pop(container_id, 0) == cpu_ns
            assert energies_uj[container_id] == pytest.approx(energy_uj)
        assert set(times_ns) <= {""}


def sums_by_container(view):
    """Return the package µJ and the CPU ns of the rows of processes by their container."""
    energies_uj: dict[str, float] = defaultdict(float)
    times_ns: dict[str, int] = defaultdict(int)
    for row, label in enumerate(view.labels):
        if label:
            energies_uj[label.container_id] += float(view.energy_uj[row, 0])
            times_ns[label.container_id] += int(view.cpu_ns[row])
    return energies_uj, times_ns


@given(intervals, retentions)
def test_a_machine_has_all_of_its_processes(story, retention):
    """The rows of virtual machines and the retired have what their listed processes used."""
    retention = retention._replace(most=-1, min_uj=0.0)
    for world, said in play(story, retention):
        assert_holds(world.vms, said[np.isin(said["tgid"], [1, 2])])


@given(intervals)
def test_each_series_has_the_records_of_its_processes(story):
    """With everything kept and no moves, a pid's total is the sum of the records of that pid."""
    story = [([each for each in now if each["cgroup_id"] == 2], []) for now, _ in story]
    for world, said in play(story, KEEP_ALL):
        expected: dict[int, int] = defaultdict(int)
        for task in said:
            expected[int(task["tgid"])] += int(task["cpu_ns"])
        found: dict[int, int] = defaultdict(int)
        for row, label in rows_of(world.processes).items():
            found[label.pid] += int(world.processes.cpu_ns[row])
        assert found == expected


@given(intervals, retentions)
def test_totals_never_fall(story, retention):
    """The total of a series that stays listed is never less than an interval before."""
    before: dict[object, np.ndarray] = {}
    for world, _ in play(story, retention):
        now = totals_by_series(world)
        assert all((now.get(key, totals) >= totals).all() for key, totals in before.items())
        before = now


@given(intervals, retentions)
def test_rows_that_ran_add_up_to_the_interval(story, retention):
    """The last interval's rows are listed, each once, and have what was credited in it."""
    for (world, _), (records_now, _) in zip(play(story, retention), story, strict=True):
        said_ns = sum(int(each["cpu_ns"][0]) for each in records_now)
        for view in (world.processes, world.cgroups):
            assert (view.state[view.ran_rows] != State.FREE).all()
            assert len(set(view.ran_rows.tolist())) == len(view.ran_rows)
        assert world.processes.ran_uj[:, 0].sum() == pytest.approx(said_ns)
        inside = [each for each in records_now if each["cgroup_id"][0] in IN_CONTAINERS]
        inside_ns = sum(int(each["cpu_ns"][0]) for each in inside)
        for view in (world.containers, world.pods):
            assert view.ran_uj[:, 0].sum() <= inside_ns * (1 + 1e-9)


@given(intervals, retentions)
def test_reading_changes_nothing(story, retention):
    """A second read of the views gives what the first one gave."""
    for world, _ in play(story, retention):
        first = world.ledger.views()
        assert world.ledger.views() is first
        world.ledger.relabel_pod("nobody", PodLabels("nobody", "", ""))
        for level, view in world.ledger.views().items():
            assert view.labels is first[level].labels
            assert (view.energy_uj == first[level].energy_uj).all()
            assert (view.cpu_ns == first[level].cpu_ns).all()


def test_views_are_read_only():
    """No array of a view can be written to."""
    world = World()
    world.interval(record())
    view = world.processes
    arrays = (view.energy_uj, view.cpu_ns, view.state, view.ran_rows, view.ran_uj, view.retired_uj)
    assert not any(array.flags.writeable for array in arrays)


def test_a_view_stays_as_it_was():
    """What is credited later does not show in a view that was taken before."""
    world = World()
    world.interval(record(cpu_ns=5))
    before = world.processes
    world.interval(record(cpu_ns=7), record(pid=11))
    assert by(before, "pid") == {10: (5.0, 5, State.RUNNING)}
    assert before.ran_uj[:, 0].tolist() == [5.0]


def test_a_process_that_did_not_run_is_not_among_those_that_ran():
    """``ran_rows`` are those of the last interval, and none after an interval without records."""
    world = World()
    world.interval(record(pid=10), record(pid=11))
    world.interval(record(pid=11))
    assert [world.processes.labels[row].pid for row in world.processes.ran_rows] == [11]
    world.interval()
    assert world.processes.ran_rows.tolist() == []


def test_threads_sockets_and_cgroups_of_a_process_are_one_row():
    """A process's records are summed, whatever thread, socket or cgroup they are of."""
    world = World()
    world.interval(record(cpu_ns=1), record(cpu_ns=2, socket=1), record(thread=11, cpu_ns=4))
    assert by(world.processes, "pid") == {10: (7.0, 7, State.RUNNING)}


def test_same_start_and_different_pid_are_two_processes():
    """Two processes that started in the same nanosecond stay apart, run after run."""
    world = World()
    for _ in range(2):
        world.interval(record(pid=10, start=9, cpu_ns=1), record(pid=11, start=9, cpu_ns=2))
    assert by(world.processes, "pid") == {10: (2.0, 2, 1), 11: (4.0, 4, 1)}


def test_the_untracked_records_of_a_container_are_one_process():
    """Records without a pid are listed by container, and as one where they are in none."""
    world = World()
    world.names.cgroups = {
        number: CgroupName(f"/{number}", container(id_))
        for number, id_ in ((1, "c"), (2, "c"), (3, "d"))
    }
    for _ in range(2):
        world.interval(*(record(pid=0, cgroup_id=id_, cpu_ns=10**id_) for id_ in range(1, 6)))
    by_container = by(world.processes, "container_id")
    cpu_ns = {id_: cpu_ns for id_, (_, cpu_ns, _) in by_container.items()}
    assert cpu_ns == {"c": 220, "d": 2_000, "": 220_000}
    assert {label.comm for label in rows_of(world.processes).values()} == {"[overflow]"}
    assert all(question[0] == "cgroup" for question in world.names.asked)


def test_the_node_keeps_every_zone():
    """Energy, active, idle and unattributed of each zone add up over the intervals."""
    world = World()
    for _ in range(3):
        world.interval(record(cpu_ns=30))
    node = world.ledger.node(0.25)
    assert node.active_uj.tolist() == [120.0, 52.5]
    assert node.idle_uj.tolist() == [240.0, 105.0]
    assert node.energy_uj.tolist() == [360.0, 157.5]
    assert node.unattributed_uj.tolist() == [30.0, 30.0]
    assert node.interval_energy_uj.tolist() == [120.0, 52.5]
    assert node.usage_ratio == 0.25


def test_an_interval_without_tasks_still_counts_for_the_node():
    """Energy of an interval in which nothing ran is in the node's totals."""
    world = World()
    world.interval()
    assert world.ledger.node(0.0).energy_uj.tolist() == [30.0, 30.0]


def test_many_rows_come_and_go_without_a_trace():
    """After a burst of processes the tables are as small as what is listed."""
    world = World(Retention(for_s=0.0, most=0, min_uj=0.0))
    burst = [record(pid=pid) for pid in range(100, 1_100)]
    world.interval(record(), *burst)
    world.interval(record(), *(record(pid=pid, ended=True) for pid in range(100, 1_100)))
    assert [label.pid for label in world.processes.labels] == [0, 0, 10]
    world.interval(record(pid=11))
    assert len(world.processes.labels) == 4


def test_a_fork_storm_makes_no_row_and_asks_for_no_name():
    """Thousands of processes that came and went below the threshold are retired, all of them."""
    world = World(Retention(for_s=120.0, most=500, min_uj=1e7))
    storm = np.repeat(record(cpu_ns=200), 5_000)
    storm["tgid"] = storm["pid"] = np.arange(2, 5_002)
    storm["process_start_ns"] = np.arange(5_000) // 3
    storm["flags"] = FLAG_ENDED
    world.interval(storm)
    assert listed(world.processes) == {}
    assert world.processes.retired_cpu_ns == 1_000_000
    assert world.names.asked == [("cgroup", 1)]


def test_a_ledger_without_zones_is_refused():
    """There is nothing to account for without a zone."""
    with pytest.raises(ValueError, match="at least one zone"):
        Ledger((), World().names, KEEP_ALL)


def test_zones_of_one_kind_share_a_column():
    """The columns of the rows are the kinds, the figures of the node the zones."""
    zones = (Zone("package", 0, "/0"), Zone("package", 1, "/1"))
    ledger = Ledger(zones, World().names, KEEP_ALL)
    assert ledger.kinds == ("package",)
    assert ledger.node(0.0).energy_uj.shape == (2,)
    assert ledger.views()["process"].energy_uj.shape == (2, 1)


def test_totals_of_one_process():
    """They are those of its row; a process that is not listed has none."""
    world = World()
    world.interval(record(pid=10, start=9, cpu_ns=1), record(pid=11, start=9, cpu_ns=2))
    world.interval(record(pid=11, start=9, cpu_ns=3))
    energy_uj, cpu_ns = world.ledger.totals_of(11, 9)
    assert (energy_uj.tolist(), cpu_ns) == ([5.0, 1.25], 5)
    energy_uj, cpu_ns = world.ledger.totals_of(11, 10)
    assert (energy_uj.tolist(), cpu_ns) == ([0.0, 0.0], 0)
