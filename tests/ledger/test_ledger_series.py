"""Rows of processes: one for each series, and one for what a container's unlisted ones used."""

from ledger_world import KEEP_ALL, World, by, container, record, rows_of, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import State

RUNNING, TERMINATED = State.RUNNING, State.TERMINATED
KEEP_NONE = Retention(for_s=0.0, most=0, min_uj=0.0)


def world_of_two(retention=KEEP_ALL) -> World:
    """Return a world in which cgroups 2 and 3 are the containers a and b."""
    world = World(retention)
    world.names.cgroups = {
        2: CgroupName("/a", container("a", "p")),
        3: CgroupName("/b", container("b", "p")),
    }
    return world


def summed(world, comm):
    """Return (package µJ, CPU ns, state) of the rows *comm* of several processes, by container."""
    view = world.processes
    return {
        label.container_id: (
            float(view.energy_uj[row, 0]),
            int(view.cpu_ns[row]),
            int(view.state[row]),
        )
        for row, label in enumerate(view.labels)
        if label and (label.pid, label.comm) == (0, comm)
    }


def retired(world):
    """Return what views had of processes that are listed no longer, by container."""
    return summed(world, "[retired]")


def others(world):
    """Return what no view had in a row of the process, by container."""
    return summed(world, "[others]")


def test_processes_that_are_not_listed_have_a_row_for_each_container():
    """It looks like a process without pid and executable, and runs as its container does."""
    world = world_of_two(KEEP_NONE)
    world.interval(*(record(pid, cgroup_id=pid // 10, ended=True) for pid in (10, 20, 21, 30)))
    assert others(world) == {
        "": (1_000.0, 1_000, RUNNING),
        "a": (2_000.0, 2_000, RUNNING),
        "b": (1_000.0, 1_000, RUNNING),
    }
    view = world.processes
    assert (view.retired_uj.tolist(), view.retired_cpu_ns) == ([4_000.0, 1_000.0], 4_000)
    assert {(label.pid, label.exe, label.type) for label in view.labels} == {
        (0, "", "regular"),
        (0, "", "container"),
    }


def test_a_container_that_ends_ends_its_row_of_retired_processes():
    """Once the container is listed no longer, what it had is of the row of none."""
    world = world_of_two(Retention(for_s=2.0, most=-1, min_uj=1e9))
    world.interval(record(20, cgroup_id=2, ended=True))
    world.ledger.ended_cgroups([2])
    world.interval()
    assert others(world)["a"] == (1_000.0, 1_000, TERMINATED)
    world.interval(seconds=5.0)
    assert retired(world) == {"": (1_000.0, 1_000, RUNNING)}
    assert others(world) == {"": (0.0, 0, RUNNING)}


def test_no_process_of_a_container_outlives_it_in_the_list():
    """A container that comes back under its id has none of the processes of before."""
    world = world_of_two(Retention(for_s=100.0, most=1, min_uj=0.0))
    world.interval(record(20, cgroup_id=2, cpu_ns=10), record(30, cgroup_id=3, cpu_ns=90))
    world.ledger.ended_cgroups([2, 3])
    world.interval()
    assert list(by(world.containers, "container_id")) == ["b"]
    assert {label.container_id for label in rows_of(world.processes).values()} == {"b"}
    assert world.ledger.running_processes()[0].tolist() == [30]


def test_what_a_process_used_stays_in_the_container_it_leaves():
    """It starts at nothing in the other one, under its other labels."""
    world = world_of_two()
    world.interval(record(cgroup_id=2, cpu_ns=5))
    assert by(world.processes, "container_id") == {"a": (5.0, 5, RUNNING)}
    world.interval(record(cgroup_id=3, cpu_ns=7))
    assert by(world.processes, "container_id") == {"b": (7.0, 7, RUNNING)}
    assert retired(world)["a"] == (5.0, 5, RUNNING)
    world.interval(record(cgroup_id=2, cpu_ns=1))
    assert by(world.processes, "container_id") == {"a": (1.0, 1, RUNNING)}
    assert (retired(world)["a"][1], retired(world)["b"][1]) == (5, 7)


def test_a_process_is_where_it_ran_in_the_last_interval_of_a_batch():
    """One that ran in two containers, first here and then there, is there."""
    world = world_of_two()
    world.interval(record(cgroup_id=2, cpu_ns=5))
    world.batch([record(cgroup_id=2, cpu_ns=9)], [record(cgroup_id=3, cpu_ns=7)])
    assert by(world.processes, "container_id") == {"b": (7.0, 7, RUNNING)}
    assert others(world)["a"] == (14.0, 14, RUNNING)


def test_threads_in_another_container_are_of_that():
    """Where a process is shown in one container, what it uses in another is among its others."""
    world = world_of_two()
    world.names.processes[10] = ProcessName("/qemu", vm("m"))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    world.interval(record(cgroup_id=2, cpu_ns=1), record(cgroup_id=3, cpu_ns=7, thread=11))
    assert by(world.processes, "container_id") == {"a": (6.0, 6, RUNNING)}
    assert others(world)["b"] == (7.0, 7, RUNNING)
    # The virtual machine is the whole process, wherever its threads run.
    assert by(world.vms, "vm_id") == {"m": (13.0, 13, RUNNING)}
    assert world.vms.ran_uj[:, 0].tolist() == [8.0]


def test_a_machine_keeps_what_its_process_used_before_it_moved():
    """The process starts at nothing in its new container, its virtual machine does not."""
    world = world_of_two()
    world.names.processes[10] = ProcessName("/qemu", vm("m"))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    world.interval(record(cgroup_id=3, cpu_ns=7))
    assert by(world.processes, "pid") == {10: (7.0, 7, RUNNING)}
    assert by(world.vms, "vm_id") == {"m": (12.0, 12, RUNNING)}


def test_exec_back_is_one_series():
    """A process that was sh, then make, then sh again keeps all it used, in one row."""
    world = World()
    for comm in (b"sh", b"make", b"sh"):
        world.interval(record(process_comm=comm, cpu_ns=5))
    assert by(world.processes, "comm") == {"sh": (15.0, 15, RUNNING)}


def test_a_process_that_becomes_what_an_ended_one_was_goes_on_in_its_row():
    """The first owner of the pid was ls; the second became ls by exec: one series."""
    world = World()
    world.interval(record(start=1, process_comm=b"ls", cpu_ns=5, ended=True))
    world.interval(record(start=2, process_comm=b"sh", cpu_ns=7))
    assert set(by(world.processes, "comm")) == {"ls", "sh"}
    world.interval(record(start=2, process_comm=b"ls", exec_id=1, cpu_ns=1))
    assert by(world.processes, "comm") == {"ls": (13.0, 13, RUNNING)}
    assert world.ledger.totals_of(10, 2)[1] == 13


def test_a_process_that_leaves_a_shared_row_leaves_it_to_the_ended_one():
    """What both were is listed as ended; the one that lives goes on under its new name."""
    world = World()
    world.interval(record(start=1, process_comm=b"sh", cpu_ns=5, ended=True))
    world.interval(record(start=2, process_comm=b"sh", cpu_ns=7))
    world.interval(record(start=2, process_comm=b"make", exec_id=1, cpu_ns=1))
    assert by(world.processes, "comm") == {
        "sh": (12.0, 12, TERMINATED),
        "make": (1.0, 1, RUNNING),
    }
    assert world.ledger.running_processes()[1].tolist() == [2]


def test_an_earlier_owner_that_is_seen_late_shares_the_row_only():
    """The row stays that of the process that has the pid now."""
    world = World()
    world.interval(record(start=2, cpu_ns=7))
    world.interval(record(start=1, cpu_ns=5))
    assert by(world.processes, "start_ns") == {2: (12.0, 12, RUNNING)}
    assert world.ledger.running_processes()[1].tolist() == [2]


def test_late_records_of_the_last_owners_of_a_pid_are_in_its_series():
    """Those of earlier ones, if any come, are among the others."""
    world = World()
    for start in range(1, 11):
        world.interval(record(start=start, cpu_ns=1, ended=True))
    world.interval(*(record(start=start, cpu_ns=10, ended=True) for start in (1, 9)))
    world.interval(record(start=10, cpu_ns=100, ended=True))
    assert by(world.processes, "start_ns") == {10: (120.0, 120, TERMINATED)}
    assert others(world)[""] == (10.0, 10, RUNNING)


def test_a_late_record_does_not_relabel_a_process_that_has_ended():
    """Another process of its pid may be what it was: that series must not start anew."""
    world = world_of_two()
    world.names.processes[10] = ProcessName("/exe")
    world.interval(
        record(start=1, cgroup_id=2, cpu_ns=5, ended=True),
        record(start=2, cgroup_id=3, cpu_ns=7, process_comm=b"other"),
    )
    world.interval(
        record(start=1, cgroup_id=2, cpu_ns=1, process_comm=b"late", ended=True),
        record(start=2, cgroup_id=2, cpu_ns=1),
    )
    assert by(world.processes, "comm") == {"work": (7.0, 7, RUNNING)}


def test_a_name_learned_later_may_make_two_series_one():
    """The row of the process that lives is the one that stays, and no row is listed twice."""
    world = World()
    world.names.processes[10] = ProcessName()
    world.interval(record(start=1, cpu_ns=5, ended=True))
    world.names.processes[10] = ProcessName("/late")
    world.interval(record(start=2, cpu_ns=7))
    world.ledger.relabel_process(10, 1, ProcessName("/late"))
    world.interval()
    assert by(world.processes, "exe") == {"/late": (12.0, 12, RUNNING)}
    assert by(world.processes, "start_ns").keys() == {2}


def test_labels_are_the_same_objects_until_they_change():
    """Who reads the views can keep what it made of a label."""
    world = world_of_two()
    world.interval(record(cgroup_id=2))
    first = world.ledger.views()
    world.interval(record(cgroup_id=2))
    for level, view in world.ledger.views().items():
        assert view.labels is first[level].labels
    world.interval(record(11, cgroup_id=2))
    assert world.processes.labels[1] is first["process"].labels[1]
