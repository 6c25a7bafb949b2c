"""Containers, pods and machines run as long as a member does, and are retired in time."""

from ledger_world import World, by, container, record, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import State

RUNNING, TERMINATED = State.RUNNING, State.TERMINATED
KEEP_ONE = Retention(for_s=100.0, most=1, min_uj=0.0)
KEEP_TWO_SECONDS = Retention(for_s=2.0, most=-1, min_uj=0.0)


def in_container(world, cgroup_id=2, name="a", pod_id=""):
    """Let a cgroup be a container's."""
    world.names.cgroups[cgroup_id] = CgroupName(f"/{cgroup_id}", container(name, pod_id))


def state_of(view, attribute, name):
    """Return the state of the workload with that name."""
    return by(view, attribute)[name][2]


def test_a_container_ends_with_its_last_cgroup():
    """A container is terminated when all of its cgroups are gone, not when one is."""
    world = World()
    in_container(world, 2)
    in_container(world, 3)
    world.interval(record(cgroup_id=2), record(cgroup_id=3))
    world.ledger.ended_cgroups([2])
    world.interval()
    assert state_of(world.containers, "container_id", "a") == RUNNING
    world.ledger.ended_cgroups([3])
    world.interval()
    assert state_of(world.containers, "container_id", "a") == TERMINATED


def test_a_pod_ends_with_its_last_container():
    """A pod is terminated when all of its containers are."""
    world = World()
    in_container(world, 2, "a", "p")
    in_container(world, 3, "b", "p")
    world.interval(record(cgroup_id=2), record(cgroup_id=3))
    world.ledger.ended_cgroups([2])
    world.interval()
    assert state_of(world.pods, "pod_id", "p") == RUNNING
    world.ledger.ended_cgroups([3])
    world.interval()
    assert state_of(world.pods, "pod_id", "p") == TERMINATED


def test_a_container_whose_last_cgroup_moves_to_another_has_ended():
    """It is no member's removal, and shows at once."""
    world = World()
    in_container(world, 2, "a", "p")
    in_container(world, 3, "b", "q")
    world.interval(record(cgroup_id=2), record(cgroup_id=3))
    assert state_of(world.containers, "container_id", "a") == RUNNING
    world.ledger.relabel_cgroup(2, CgroupName("/3", container("b", "q")))
    assert state_of(world.containers, "container_id", "a") == TERMINATED
    assert state_of(world.pods, "pod_id", "p") == TERMINATED


def test_a_late_slice_of_a_removed_cgroup_is_its_containers():
    """What comes for a cgroup after its removal is credited to the container that had it."""
    world = World()
    in_container(world, 2, "a", "p")
    world.interval(record(cgroup_id=2))
    world.ledger.ended_cgroups([2])
    world.interval()
    world.interval(record(cgroup_id=2, cpu_ns=5, ended=True))
    assert by(world.containers, "container_id") == {"a": (1_005.0, 1_005, TERMINATED)}
    assert by(world.pods, "pod_id") == {"p": (1_005.0, 1_005, TERMINATED)}


def test_a_container_that_came_and_went_in_one_interval_is_listed():
    """A cgroup whose removal is known before its records still has its container, terminated."""
    world = World(Retention(for_s=100.0, most=-1, min_uj=1e7))
    in_container(world)
    world.ledger.ended_cgroups([2])
    world.interval(record(cgroup_id=2, ended=True))
    assert by(world.containers, "container_id") == {"a": (1_000.0, 1_000, TERMINATED)}


def test_a_cgroup_whose_removal_came_an_interval_early_is_no_running_one():
    """Records that arrive an interval after the removal do not make a running container."""
    world = World()
    in_container(world)
    world.ledger.ended_cgroups([2])
    world.interval()
    world.interval(record(cgroup_id=2, ended=True))
    assert state_of(world.containers, "container_id", "a") == TERMINATED


def test_a_container_that_comes_back_runs_again():
    """A new cgroup of a terminated container makes it, and its pod, running again."""
    world = World()
    in_container(world, 2, "a", "p")
    in_container(world, 3, "a", "p")
    world.interval(record(cgroup_id=2))
    world.ledger.ended_cgroups([2])
    world.interval()
    world.interval(record(cgroup_id=3))
    assert by(world.containers, "container_id") == {"a": (2_000.0, 2_000, RUNNING)}
    assert by(world.pods, "pod_id") == {"p": (2_000.0, 2_000, RUNNING)}


def test_terminated_containers_and_pods_leave_after_their_time():
    """A container and its pod are retired when the retention time has passed."""
    world = World(KEEP_TWO_SECONDS)
    in_container(world, 2, "a", "p")
    world.ledger.ended_cgroups([2])
    world.interval(record(cgroup_id=2, ended=True))
    for _ in range(3):
        world.interval()
    assert world.containers.labels == world.pods.labels == ()
    assert world.containers.retired_uj[0] == world.pods.retired_uj[0] == 1_000.0


def test_a_late_slice_of_a_folded_container_is_folded():
    """What comes for a container that is listed no longer is not lost to its level."""
    world = World(Retention(for_s=100.0, most=0, min_uj=0.0))
    in_container(world, 2, "a", "p")
    world.ledger.ended_cgroups([2])
    world.interval(record(cgroup_id=2, ended=True))
    world.interval(record(cgroup_id=2, cpu_ns=5, ended=True))
    assert (world.containers.retired_cpu_ns, world.pods.retired_cpu_ns) == (1_005, 1_005)


def test_a_container_whose_pod_was_folded_is_no_other_pods():
    """A container that outlives its pod's row does not count for the pod that has the row now."""
    world = World(KEEP_ONE)
    in_container(world, 2, "a", "p")
    in_container(world, 3, "b", "p")
    in_container(world, 4, "c", "q")
    world.ledger.ended_cgroups([2, 3, 4])
    world.interval(*(record(cgroup_id=each, cpu_ns=10 + each, ended=True) for each in (2, 3, 4)))
    assert (list(by(world.containers, "container_id")), list(by(world.pods, "pod_id"))) == (
        ["c"],
        ["p"],
    )
    in_container(world, 5, "d", "r")
    in_container(world, 6, "c")
    world.interval(record(cgroup_id=5, cpu_ns=1), record(cgroup_id=6, cpu_ns=100))
    assert by(world.pods, "pod_id")["r"] == (1.0, 1, RUNNING)
    assert world.pods.retired_cpu_ns == 14 + 100


def test_a_process_whose_machine_was_folded_is_no_other_machines():
    """A process that outlives its machine's row does not count for the one that has it now."""
    world = World(KEEP_ONE)
    world.names.processes = {
        10: ProcessName("", vm("m")),
        11: ProcessName("", vm("n")),
        12: ProcessName("", vm("n")),
        13: ProcessName("", vm("o")),
    }
    times_ns = {10: 5, 11: 4, 12: 4}
    world.interval(*(record(pid=pid, cpu_ns=cpu_ns) for pid, cpu_ns in times_ns.items()))
    world.interval(*(record(pid=pid, cpu_ns=0, ended=True) for pid in times_ns))
    assert (list(by(world.processes, "pid")), list(by(world.vms, "vm_id"))) == ([10], ["n"])
    world.interval(record(pid=10, cpu_ns=100, ended=True), record(pid=13, cpu_ns=1))
    assert by(world.vms, "vm_id")["o"] == (1.0, 1, RUNNING)
    assert world.vms.retired_cpu_ns == 5 + 100


def test_a_removed_cgroup_is_forgotten():
    """The internal table does not grow with cgroups that are gone."""
    world = World()
    for cgroup_id in range(2, 30):
        world.ledger.ended_cgroups([cgroup_id])
        world.interval(record(cgroup_id=cgroup_id, ended=True))
    assert len(world.cgroups.labels) <= 3


def test_a_machine_ends_with_its_last_process():
    """A machine of two processes runs until both have exited, and is then retired in time."""
    world = World(KEEP_TWO_SECONDS)
    world.names.processes = {10: ProcessName("/qemu", vm("m")), 11: ProcessName("", vm("m"))}
    world.interval(record(pid=10), record(pid=11))
    world.interval(record(pid=10, ended=True))
    assert by(world.vms, "vm_id") == {"m": (3_000.0, 3_000, RUNNING)}
    world.interval(record(pid=11, ended=True))
    assert by(world.vms, "vm_id") == {"m": (4_000.0, 4_000, TERMINATED)}
    world.interval(seconds=5.0)
    assert (world.vms.labels, world.vms.retired_cpu_ns) == ((), 4_000)
