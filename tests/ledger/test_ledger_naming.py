"""Names are asked for once, followed when they change, and bring along what came before them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ledger_world import World, by, container, listed, record, rows_of, vm

from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import PodLabels, State


def only(view):
    """Return the label of the one workload there is."""
    (label,) = rows_of(view).values()
    return label


def questions(world, about):
    """Return what the ledger asked about processes, cgroups or pods."""
    return [question for question in world.names.asked if question[0] == about]


# --- processes


def test_a_process_and_its_cgroup_are_asked_about_once():
    """A process that runs in every interval is named when it is new, and not again."""
    world = World()
    for _ in range(3):
        world.interval(record(pid=10, start=7, cgroup_id=5))
    assert world.names.asked == [("cgroup", 5), ("process", 10, 7, 0, "work", True)]


def test_a_process_has_the_names_it_was_given():
    """The label has the kernel's comm, the exe of the answer and the container of the cgroup."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(pid=10, start=7, cgroup_id=2))
    label = only(world.processes)
    assert (label.pid, label.start_ns, label.comm, label.exe) == (10, 7, "work", "/bin/work")
    assert (label.type, label.container_id, label.vm_id) == ("container", "a", "")


def test_a_process_that_is_gone_is_named_by_what_the_kernel_said():
    """One that came and went is asked about as ended, since /proc does not have it."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(start=7, cgroup_id=2, ended=True))
    label = only(world.processes)
    assert questions(world, "process") == [("process", 10, 7, 0, "work", False)]
    assert (label.exe, label.container_id, label.type) == ("/bin/work", "a", "container")


def test_a_fork_has_the_executable_of_its_parent():
    """A process that has ended without exec is what its parent is, where that is listed."""
    world = World()
    world.interval(record(exec_id=3))
    world.names.processes = dict.fromkeys(range(11, 15), ProcessName())
    child = {"parent_tgid": 10, "ended": True, "exec_id": 3}
    world.interval(
        record(11, **child),
        record(12, **child | {"exec_id": 4}),
        record(13, **child | {"process_comm": b"other"}),
        record(14, **child | {"parent_tgid": 99}),
    )
    exes = {label.pid: label.exe for label in rows_of(world.processes).values()}
    assert exes == {10: "/bin/work", 11: "/bin/work", 12: "", 13: "", 14: ""}


def test_a_parent_is_listed_before_its_children():
    """Forks of forks that came with their parent in one batch have its executable."""
    world = World()
    world.names.processes = dict.fromkeys((8, 9), ProcessName())
    fork = {"ended": True, "exec_id": 3}
    world.interval(
        record(8, start=30, parent_tgid=9, **fork),
        record(9, start=20, parent_tgid=10, **fork),
        record(10, start=10, exec_id=3),
    )
    assert {label.exe for label in rows_of(world.processes).values()} == {"/bin/work"}


def test_a_later_owner_of_the_parents_pid_is_no_parent():
    """A process that started after the child did not make it."""
    world = World()
    world.names.processes[11] = ProcessName()
    world.interval(record(10, start=20), record(11, start=10, parent_tgid=10, ended=True))
    assert {label.pid: label.exe for label in rows_of(world.processes).values()}[11] == ""


def test_a_machine_in_a_container_is_both():
    """A hypervisor in a container counts for both; its type is the container's, as in Kepler."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.names.processes = {10: ProcessName("/qemu", vm("m")), 11: ProcessName("/qemu", vm("n"))}
    world.interval(record(pid=10, cgroup_id=2), record(pid=11))
    types = {label.pid: (label.type, label.vm_id) for label in rows_of(world.processes).values()}
    assert types == {10: ("container", "m"), 11: ("vm", "n")}
    assert {label.vm_id: uj for label, uj in listed(world.vms).items()} == {"m": 1e3, "n": 1e3}


def test_exec_is_asked_about_again():
    """A process that called exec has its new comm and exe, and is asked about once for it."""
    world = World()
    world.interval(record(process_comm=b"sh", exec_id=1))
    for _ in range(2):
        world.interval(record(process_comm=b"make", exec_id=2))
    assert [question[4] for question in questions(world, "process")] == ["sh", "make"]
    assert (only(world.processes).comm, only(world.processes).exe) == ("make", "/bin/make")


def test_exec_counts_though_records_from_before_it_are_there():
    """A process that ran on two sockets, before and after exec, is shown as after it."""
    world = World()
    world.interval(record(process_comm=b"sh", exec_id=1))
    world.interval(
        record(process_comm=b"sh", exec_id=1, cpu_ns=900),
        record(process_comm=b"make", exec_id=2, cpu_ns=1, socket=1),
    )
    assert (only(world.processes).comm, only(world.processes).exe) == ("make", "/bin/make")


def test_exec_of_a_process_that_has_ended_is_named_by_what_the_kernel_said():
    """A process that called exec and exited is asked about as ended."""
    world = World()
    world.interval(record(process_comm=b"sh", exec_id=1))
    world.interval(record(process_comm=b"true", exec_id=2, ended=True))
    assert questions(world, "process")[1][3:] == (2, "true", False)
    assert (only(world.processes).comm, only(world.processes).exe) == ("true", "/bin/true")


def test_a_changed_comm_is_shown():
    """A process that renames itself is shown with its new name, without a question."""
    world = World()
    world.interval(record(process_comm=b"one"))
    world.interval(record(process_comm=b"two"))
    assert only(world.processes).comm == "two"
    assert len(questions(world, "process")) == 1


def test_a_comm_that_is_not_text_is_made_valid():
    """Bytes that are not UTF-8 are replaced."""
    world = World()
    world.interval(record(process_comm=b'\xffa"\n'))
    assert only(world.processes).comm == '\ufffda"\n'


def test_a_process_that_moves_is_in_its_new_container():
    """A process whose cgroup changes is relabelled; each container keeps what ran in it."""
    world = World()
    world.names.cgroups = {
        2: CgroupName("/a", container("a")),
        3: CgroupName("/b", container("b")),
    }
    world.interval(record(cgroup_id=2, cpu_ns=5))
    world.interval(record(cgroup_id=3, cpu_ns=7))
    assert only(world.processes).container_id == "b"
    assert by(world.containers, "container_id") == {"a": (5.0, 5, 1), "b": (7.0, 7, 1)}


def test_a_process_in_several_cgroups_does_not_flicker():
    """A process with threads in two cgroups is shown where it was as long as it runs there."""
    world = World()
    world.names.cgroups[3] = CgroupName("/b", container("b"))
    world.interval(record(cgroup_id=2))
    before = only(world.processes)
    world.interval(record(cgroup_id=2, cpu_ns=1), record(cgroup_id=3, cpu_ns=9, thread=11))
    assert only(world.processes) is before


def test_a_process_that_entered_its_container_and_called_exec_is_in_it():
    """Of a new process's records in two cgroups the one made after exec tells where it is."""
    world = World()
    world.names.cgroups[3] = CgroupName("/b", container("b"))
    world.interval(
        record(cgroup_id=2, exec_id=1, cpu_ns=900, process_comm=b"runc"),
        record(cgroup_id=3, exec_id=2, cpu_ns=10, process_comm=b"sleep"),
    )
    assert (only(world.processes).container_id, only(world.processes).comm) == ("b", "sleep")


def test_a_process_can_be_named_later():
    """An exe and a machine learned later are shown, and the machine has all its energy."""
    world = World()
    world.interval(record(pid=10, start=7))
    world.ledger.relabel_process(10, 7, ProcessName("/usr/bin/qemu", vm("m")))
    world.ledger.relabel_process(99, 7, ProcessName("/nobody"))
    world.interval(record(pid=10, start=7))
    label = only(world.processes)
    assert (label.exe, label.vm_id, label.type) == ("/usr/bin/qemu", "m", "vm")
    assert by(world.vms, "vm_id") == {"m": (2_000.0, 2_000, State.RUNNING)}


def test_a_process_that_becomes_another_machine_leaves_the_first():
    """What it drew stays with the machine it was, which ends without it."""
    world = World()
    world.names.processes[10] = ProcessName("/qemu", vm("m"))
    world.interval(record(exec_id=1))
    world.names.processes[10] = ProcessName("/qemu", vm("n"))
    world.interval(record(exec_id=2, cpu_ns=5))
    machines = by(world.vms, "vm_id")
    assert machines["m"] == (1_000.0, 1_000, State.TERMINATED)
    assert machines["n"] == (5.0, 5, State.RUNNING)


# --- containers and pods


def test_a_container_learned_later_has_all_its_energy():
    """A cgroup that turns out to be a container's brings its totals, and renames its processes."""
    world = World()
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/a", container("a", "p")))
    world.interval(record(cgroup_id=2))
    assert by(world.containers, "container_id") == {"a": (2_000.0, 2_000, State.RUNNING)}
    assert by(world.pods, "pod_id") == {"p": (2_000.0, 2_000, State.RUNNING)}
    assert (only(world.processes).container_id, only(world.processes).type) == ("a", "container")


def test_a_cgroup_moved_to_another_container_takes_nothing_along():
    """A cgroup named anew is the new container's from then on; the old one ends with its own."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/b", container("b")))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    rows = by(world.containers, "container_id")
    assert rows["a"] == (1_000.0, 1_000, State.TERMINATED)
    assert rows["b"] == (5.0, 5, State.RUNNING)


def test_a_name_without_a_container_takes_none_away():
    """A cgroup renamed without container or pod stays where it is."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a", "p"))
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/other"))
    world.ledger.relabel_cgroup(77, CgroupName("/nobody"))
    world.interval(record(cgroup_id=2))
    assert by(world.containers, "container_id")["a"][0] == 2_000.0
    assert by(world.pods, "pod_id")["p"][0] == 2_000.0


def test_a_container_name_learned_later_is_shown():
    """New labels of a listed container show at once; those of another are left alone."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(cgroup_id=2))
    named = replace(container("a"), container_name="web")
    world.ledger.relabel_cgroup(2, CgroupName("/a", named))
    world.ledger.relabel_cgroup(3, CgroupName("/b", container("nobody")))
    assert only(world.containers) is named
    labels = world.containers.labels
    world.ledger.relabel_cgroup(2, CgroupName("/a", replace(named)))
    assert world.containers.labels is labels


def test_a_pod_learned_later_has_all_its_containers_energy():
    """A container that turns out to be a pod's brings its totals, once."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(cgroup_id=2))
    for _ in range(2):
        world.ledger.relabel_cgroup(2, CgroupName("/a", container("a", "p"), "p"))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    assert by(world.pods, "pod_id") == {"p": (1_005.0, 1_005, State.RUNNING)}


def test_a_cgroup_that_goes_to_a_container_of_a_pod_leaves_its_energy_behind():
    """What it was given in another container, which is in no pod, is not the pod's."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/b", container("b", "p"), "p"))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    assert by(world.pods, "pod_id")["p"][:2] == (5.0, 5)
    containers = by(world.containers, "container_id")
    assert (containers["a"][:2], containers["b"][:2]) == ((1_000.0, 1_000), (5.0, 5))


def test_a_pod_learned_later_has_nothing_of_a_container_that_its_cgroup_left():
    """It has the energy of its container, not what the cgroup used in another one before."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a"))
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/b", container("b")))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    world.ledger.relabel_cgroup(2, CgroupName("/b", container("b", "p")))
    assert by(world.pods, "pod_id") == {"p": (5.0, 5, State.RUNNING)}


def test_two_pods_that_claim_one_container_share_no_joule():
    """The first pod keeps what was drawn in its time, the second has what comes after."""
    world = World()
    world.names.cgroups[2] = CgroupName("/a", container("a", "p"))
    world.interval(record(cgroup_id=2))
    world.ledger.relabel_cgroup(2, CgroupName("/a", container("a", "q"), "q"))
    world.interval(record(cgroup_id=2, cpu_ns=5))
    pods = by(world.pods, "pod_id")
    assert pods["p"] == (1_000.0, 1_000, State.TERMINATED)
    assert pods["q"] == (5.0, 5, State.RUNNING)


def test_a_pod_has_cgroups_that_are_no_container():
    """A cgroup that names a pod and no container is counted in the pod, and ends with it."""
    world = World()
    world.names.cgroups = {
        2: CgroupName("/pod", pod_id="p"),
        3: CgroupName("/pod/a", container("a", "p")),
    }
    world.interval(record(cgroup_id=2, cpu_ns=5), record(cgroup_id=3, cpu_ns=7))
    assert by(world.pods, "pod_id") == {"p": (12.0, 12, State.RUNNING)}
    world.ledger.ended_cgroups([2, 3])
    world.interval()
    assert by(world.pods, "pod_id")["p"][2] == State.TERMINATED


def test_a_pod_cgroup_that_becomes_a_container_is_counted_once():
    """What a pod had from a bare cgroup is not counted again when that is a container's."""
    world = World()
    world.names.cgroups = {
        2: CgroupName("/pod", pod_id="p"),
        3: CgroupName("/a", container("a")),
    }
    world.interval(record(cgroup_id=2, cpu_ns=5), record(cgroup_id=3, cpu_ns=7))
    world.ledger.relabel_cgroup(2, CgroupName("/pod/a", container("a")))
    world.interval(record(cgroup_id=2, cpu_ns=1))
    assert by(world.containers, "container_id") == {"a": (13.0, 13, State.RUNNING)}
    assert by(world.pods, "pod_id") == {"p": (13.0, 13, State.RUNNING)}


def test_the_pod_of_the_path_is_the_containers():
    """A container whose labels have no pod is in the pod its cgroup's path names."""
    world = World()
    world.names.cgroups[2] = CgroupName("/pod/a", container("a"), pod_id="p")
    world.interval(record(cgroup_id=2))
    assert by(world.pods, "pod_id") == {"p": (1_000.0, 1_000, State.RUNNING)}


def test_a_pod_is_asked_about_once_and_can_be_named_later():
    """The first answer is shown until a better name is known."""
    world = World()
    world.names.pods["p"] = "first"
    world.names.cgroups[2] = CgroupName("/a", container("a", "p"))
    world.interval(record(cgroup_id=2))
    assert only(world.pods).pod_name == "first"
    world.ledger.relabel_pod("p", PodLabels("p", "web-0", "shop"))
    world.ledger.relabel_pod("nobody", PodLabels("nobody", "", ""))
    world.interval(record(cgroup_id=2))
    assert only(world.pods) == PodLabels("p", "web-0", "shop")
    assert questions(world, "pod") == [("pod", "p")]


# --- laws -------------------------------------------------------------------------------------

NAMES = st.builds(
    lambda id_, pod: CgroupName("/x", container(id_, pod) if id_ else None, pod),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "p", "q"]),
)
STEPS = st.lists(
    st.tuples(st.sampled_from([2, 3, 4]), st.none() | NAMES, st.integers(0, 1000)), max_size=20
)


@given(STEPS)
def test_no_name_doubles_a_joule(steps):
    """Whatever cgroups turn out to be, no level has more than they were given."""
    world, given_ns = World(), 0
    for cgroup_id, name, cpu_ns in steps:
        if name:
            world.ledger.relabel_cgroup(cgroup_id, name)
        world.interval(record(cgroup_id, cgroup_id=cgroup_id, cpu_ns=cpu_ns))
        given_ns += cpu_ns
        for view in (world.containers, world.pods):
            assert view.cpu_ns.sum() + view.retired_cpu_ns <= given_ns


@given(STEPS, st.sampled_from(["p", "q"]))
def test_a_pod_is_the_sum_of_its_containers(steps, pod_id):
    """Where each cgroup has a container that is in one pod at most, however late that is known."""
    world = World()
    for cgroup_id, name, cpu_ns in steps:
        if name and name.container:
            labels = container(f"of-{cgroup_id}", pod_id if name.pod_id else "")
            world.ledger.relabel_cgroup(cgroup_id, CgroupName("/x", labels, labels.pod_id))
        world.interval(record(cgroup_id, cgroup_id=cgroup_id, cpu_ns=cpu_ns))
        containers = zip(world.containers.labels, world.containers.cpu_ns.tolist(), strict=True)
        in_pod = sum(cpu_ns for label, cpu_ns in containers if label and label.pod_id == pod_id)
        assert world.pods.cpu_ns.sum() == in_pod
