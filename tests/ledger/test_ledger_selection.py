"""Which workloads have rows of their own by the user's choice, and when that changes."""

import numpy as np
from ledger_world import World, by, container, everything, record, vm

from kepler_ebpf.ledger.candidates import HALF_LIFE_S, MAX_CANDIDATES, REST_S
from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.selection import Filter, Selection
from kepler_ebpf.model.workloads import OTHERS, PodLabels, UnitLabels

EVERY_ENDED = Retention(for_s=1e9, most=-1, min_uj=0.0)


def pids(world: World) -> set[int]:
    """Return the pids that have a row."""
    return set(by(world.processes, "pid")) - {0}


def of_comm(world: World, comm: str) -> float:
    """Return the package µJ of the rows with a comm."""
    view = world.processes
    return sum(
        float(view.energy_uj[row, 0])
        for row, label in enumerate(view.labels)
        if label and label.comm == comm
    )


def used(**cpu_ns: int) -> list[np.ndarray]:
    """Return a record of each process ``p1=100``, with its CPU ns."""
    return [record(int(name[1:]), each) for name, each in cpu_ns.items()]


def test_the_highest_are_listed_and_the_rest_is_in_others() -> None:
    """By the energy they used; nothing else is named."""
    world = World(selection=Selection(top_n=2))
    world.interval(*used(p1=10, p2=30, p3=20, p4=5))
    assert pids(world) == {2, 3}
    assert of_comm(world, OTHERS) == 15.0
    assert {name[1] for name in world.names.asked if name[0] == "process"} == {2, 3}


def test_one_that_uses_more_takes_the_place_of_the_lowest() -> None:
    """What pages showed of that stays in [retired]; the newcomer starts with what it uses now."""
    world = World(selection=Selection(top_n=2))
    world.interval(*used(p1=10, p2=30))
    assert pids(world) == {1, 2}
    world.interval(*used(p1=1, p3=100))
    assert pids(world) == {2, 3}
    assert of_comm(world, "[retired]") == 10.0
    assert of_comm(world, OTHERS) == 1.0
    assert by(world.processes, "pid")[3][0] == 100.0


def test_a_little_more_is_not_enough() -> None:
    """Two that use about the same do not change places."""
    world = World(selection=Selection(top_n=1))
    world.interval(*used(p1=100))
    for _ in range(50):
        world.interval(*used(p1=100, p2=120))
    assert pids(world) == {1}


def test_what_was_used_long_ago_counts_less() -> None:
    """One that was high once loses its place to one that is now."""
    world = World(selection=Selection(top_n=1))
    world.interval(*used(p1=1_000))
    world.interval(*used(p2=400))
    assert pids(world) == {1}
    world.interval(*used(p2=400), seconds=3 * HALF_LIFE_S)
    assert pids(world) == {2}


def test_who_lost_its_row_rests_before_it_gets_another() -> None:
    """So no reader's window holds both series, of which the later one starts at 0."""
    world = World(selection=Selection(top_n=1))
    world.interval(*used(p1=10))
    world.interval(*used(p2=100))
    world.interval(*used(p1=10_000))
    assert pids(world) == {2}
    world.interval(*used(p1=10_000), seconds=REST_S)
    assert pids(world) == {1}
    assert by(world.processes, "pid")[1][0] == 10_000.0
    assert everything(world.processes)[1] == 20_110


def test_a_process_is_listed_once_it_has_used_enough() -> None:
    """In all, not in one interval; what it used before stays in [others]."""
    world = World(selection=Selection(min_uj=25.0))
    for _ in range(2):
        world.interval(*used(p1=10))
    assert pids(world) == set()
    world.interval(*used(p1=10))
    assert by(world.processes, "pid")[1][0] == 10.0
    assert of_comm(world, OTHERS) == 20.0


def test_one_that_came_and_went_is_listed_where_it_is_among_the_highest() -> None:
    """As one that ended, which has one of the places."""
    world = World(EVERY_ENDED, selection=Selection(top_n=2))
    world.interval(record(1, 50, ended=True), record(2, 10), record(3, 20))
    assert pids(world) == {1, 3}


def test_a_process_that_is_listed_in_any_case_takes_one_of_the_places() -> None:
    """However little it uses, and whatever the filters say."""
    world = World(selection=Selection(top_n=1, comm=Filter(deny=["own"]), always=1))
    world.interval(*used(p2=100))
    world.interval(record(1, 1, process_comm=b"own"), *used(p2=100, p3=1_000))
    assert 1 in pids(world)
    world.interval(*used(p3=10_000, p4=10_000))
    assert 1 in pids(world)


def test_a_machine_keeps_its_process() -> None:
    """The machine's own row is made of it."""
    world = World(selection=Selection(top_n=1))
    world.names.processes[1] = ProcessName("/qemu", vm("m"))
    world.interval(*used(p1=10))
    world.interval(*used(p1=10, p2=1_000))
    assert pids(world) == {1}
    assert by(world.vms, "vm_id")["m"][0] == 20.0


def test_filters_of_names_hold_for_whole_names_and_when_a_name_changes() -> None:
    """A process that takes a denied name is listed no longer."""
    world = World(selection=Selection(comm=Filter(["work.*"], ["worker"])))
    world.interval(record(1, process_comm=b"work"), record(2, process_comm=b"a work"))
    world.interval(record(3, process_comm=b"worker"))
    assert pids(world) == {1}
    world.interval(record(1, process_comm=b"worker", cpu_ns=7))
    assert pids(world) == set()
    assert (of_comm(world, "[retired]"), of_comm(world, OTHERS)) == (1_000.0, 2_007.0)


def test_a_cgroup_that_is_denied_hides_what_is_in_it_at_each_level() -> None:
    """Its container, pod and unit are in [others], and its processes in those of that."""
    world = World(selection=Selection(cgroup=Filter(deny=["/secret/.*"])))
    for number, path in enumerate(["/open/a", "/secret/b"], 1):
        world.names.cgroups[number] = CgroupName(
            path,
            container(f"c{number}", f"p{number}"),
            f"p{number}",
            (("unit", UnitLabels(f"u{number}", "systemd")),),
        )
    world.interval(record(1, 10, cgroup_id=1), record(2, 30, cgroup_id=2))
    for view, label in ((world.containers, "container_id"), (world.pods, "pod_id")):
        assert {key[-1:]: row[0] for key, row in by(view, label).items()} == {"1": 10.0, "]": 30.0}
    assert by(world.units, "unit")[OTHERS][0] == 30.0
    assert {label.container_id: label.pid for label in world.processes.labels if label} == {
        "": 0,
        "c1": 1,
        OTHERS: 0,
    }


def test_a_pod_is_listed_once_its_namespace_is_known_and_allowed() -> None:
    """From 0: what it used until then stays in [others]."""
    world = World(selection=Selection(namespace=Filter(deny=["kube-.*"])))
    for number in (1, 2):
        pod = f"p{number}"
        world.names.cgroups[number] = CgroupName(f"/{pod}", container(f"c{number}", pod), pod)
    world.interval(record(1, 10, cgroup_id=1), record(2, 10, cgroup_id=2), record(3, cgroup_id=3))
    assert pids(world) == {3}
    assert by(world.pods, "pod_id")[OTHERS][0] == 20.0
    namespaces = {"p1": "shop", "p2": "kube-system"}
    world.names.pod = lambda id_: PodLabels(id_, id_, namespaces[id_])  # type: ignore[method-assign]
    for pod_id in namespaces:
        world.ledger.relabel_pod(pod_id, world.names.pod(pod_id))
    world.interval(record(1, 5, cgroup_id=1), record(2, 5, cgroup_id=2))
    assert {key: row[0] for key, row in by(world.pods, "pod_id").items()} == {
        "p1": 5.0,
        OTHERS: 25.0,
    }
    assert {key: row[0] for key, row in by(world.containers, "container_id").items()} == {
        "c1": 5.0,
        OTHERS: 25.0,
    }
    assert pids(world) == {1, 3}


def test_processes_are_listed_no_longer_when_their_cgroup_turns_out_to_be_denied() -> None:
    """Its name may come late."""
    world = World(selection=Selection(cgroup=Filter(deny=["/secret"])))
    world.interval(record(1, 10))
    world.ledger.relabel_cgroup(1, CgroupName("/secret"))
    assert pids(world) == set()
    assert everything(world.processes)[1] == 10


def test_processes_without_a_row_are_remembered_up_to_a_number() -> None:
    """Those that used most stay; nothing of the energy is lost."""
    world = World(selection=Selection(min_uj=1e6))
    count = MAX_CANDIDATES + 100
    records = np.repeat(record(cpu_ns=1), count)
    records["tgid"] = np.arange(1, count + 1)
    records["cpu_ns"][0] = 400_000
    world.interval(records)
    records["process_start_ns"] += 1
    world.interval(records)
    assert everything(world.processes)[1] == 2 * (400_000 + count - 1)
    world.interval(record(1, 600_000, start=int(records["process_start_ns"][0])))
    assert pids(world) == {1}


def test_a_pid_that_is_used_again_goes_on_with_its_series() -> None:
    """Even by a process that would take the earlier one's place: no counter falls."""
    world = World(selection=Selection(top_n=1))
    world.interval(record(1, 10, start=1))
    world.interval(record(1, 100, start=2))
    assert by(world.processes, "pid")[1][0] == 110.0


def test_no_more_are_listed_for_long_where_a_pid_is_used_again() -> None:
    """By a process of another series: the earlier one is listed beside it, and makes room then."""
    world = World(selection=Selection(top_n=1))
    world.interval(record(1, 10, start=1))
    world.interval(record(1, 100, start=2, process_comm=b"sh"))
    world.interval(record(1, 1, start=2, process_comm=b"sh"))
    assert by(world.processes, "comm")["sh"][0] == 101.0
    assert "work" not in by(world.processes, "comm")


def test_a_pid_rests_whichever_process_has_it() -> None:
    """A series starts again at 0, so not before Prometheus has forgotten it."""
    world = World(selection=Selection(top_n=1))
    world.interval(record(1, 10, start=1))
    world.interval(record(2, 100))
    world.interval(record(1, 1_000, start=2))
    assert pids(world) == {2}
    world.interval(seconds=REST_S)
    world.interval(record(1, 1_000, start=2))
    assert pids(world) == {1}


def test_batches_without_a_process_that_waits_are_credited() -> None:
    """After one has lost its row, too."""
    world = World(selection=Selection(top_n=1))
    world.interval(record(1, 10))
    world.interval(record(2, 100))
    world.interval(record(2, 100))
    assert by(world.processes, "pid")[2][0] == 200.0


def test_who_loses_a_row_while_it_is_named_anew_is_in_others() -> None:
    """A process that called exec in the batch in which another takes its place."""
    world = World(selection=Selection(top_n=1))
    world.interval(record(1, 10))
    world.interval(record(1, 10, exec_id=1), record(2, 1_000))
    assert pids(world) == {2}
    assert of_comm(world, OTHERS) == 20.0
