"""Names of real cgroups, real processes and a real index of pods, for the loop and the ledger."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from processes import SHELL, start_ns_of, waiting_shell

from kepler_ebpf.model.names import CgroupEvent, CgroupName, ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, UnitLabels, VmLabels
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.strange import MAX_REPORTED
from kepler_ebpf.names.kubernetes.index import UNKNOWN_RETENTION_S, NamedContainer, PodIndex
from kepler_ebpf.names.naming import (
    GIVE_UP_S,
    MARGIN_S,
    MAX_RETRIES,
    RETRY_S,
    HostNaming,
    NameUpdates,
    NamingOptions,
)

WAIT_S = 30.0
ID = "0123456789abcdef" * 4
PAUSE_ID = "fedcba9876543210" * 4
UID = "6a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
HASH = "0f" * 16
LABELS = PodLabels(UID, "shop-1", "shop")
NOTHING = NameUpdates()
NO_CGROUP = CgroupName("")


@dataclass
class Pods:
    """A pod source without a server."""

    index: PodIndex = field(default_factory=PodIndex)

    def find(self, container_id: str) -> NamedContainer | None:
        """Look in the index."""
        return self.index.find(container_id)

    def tell(self, *container_ids: str, uid: str = UID, cgroup_uid: str = "") -> None:
        """Learn of the pod, with the containers named web that it has so far."""
        cgroup_uid = cgroup_uid or uid
        containers = tuple((container_id, "web") for container_id in container_ids)
        since = "2026-01-01T00:00:00Z"
        self.index.apply(
            PodInfo(uid, "shop-1", "shop", cgroup_uid, "", "", "", "", (), since, containers)
        )


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class World:
    """A naming that knows cgroups by events only, on a disk without runtimes."""

    def __init__(self, root: Path) -> None:
        """Begin with an empty disk, no pod and no cgroup."""
        self.clock = Clock()
        self.pods = Pods()
        self.root = root
        self.naming = self.named_by(self.pods)
        self.naming.begin_batch(60.0)

    def named_by(self, pods: Pods | None, levels: frozenset[str] = frozenset()) -> HostNaming:
        """Return a naming of its own on the same disk, with other pods."""
        hierarchy = CgroupHierarchy("v2", None, None)
        options = NamingOptions(host_root=str(self.root), levels=levels)
        return HostNaming(hierarchy, options, pods, self.clock)

    def make(self, path: str, cgroup_id: int = 7) -> int:
        """Have the kernel report a cgroup."""
        self.naming.learn_cgroups([CgroupEvent(cgroup_id, path, removed=False)])
        return cgroup_id

    def remove(self, path: str, cgroup_id: int) -> None:
        """Have the kernel report that a cgroup is gone."""
        self.naming.learn_cgroups([CgroupEvent(cgroup_id, path, removed=True)])

    def process(self, tgid: int, start_ns: int, comm: str) -> ProcessName:
        """Ask for the name of a live process that no exec event is known of."""
        return self.naming.process(ProcessIdentity(tgid, start_ns, 1, comm))

    def name(self, path: str) -> CgroupName:
        """Ask for the name of a new cgroup."""
        return self.naming.cgroup(self.make(path))

    def read(self) -> NameUpdates:
        """Return the updates when all is read that other threads read."""
        give_up_s = time.monotonic() + WAIT_S
        while any(reader.threads for reader in self.naming.readers):
            assert time.monotonic() < give_up_s
            time.sleep(0.001)
        return self.naming.updates()


FEW_PENDING = 400


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a naming with parts that a test moves, and room for few pending names."""
    monkeypatch.setattr("kepler_ebpf.names.naming.MAX_PENDING", FEW_PENDING)
    return World(tmp_path)


# --- cgroups


@pytest.fixture(params=hierarchies(), ids=lambda hierarchy: hierarchy.name)
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    """Give real cgroups in each hierarchy of this host."""
    with cgroup_tree(request.param) as made:
        yield made


def test_container_of_a_real_cgroup(tree: CgroupTree, tmp_path: Path) -> None:
    """A cgroup shaped like docker's is docker's container, and keeps its name when removed."""
    naming = HostNaming(tree.hierarchy, NamingOptions(host_root=str(tmp_path)))
    cgroup = tree.make(f"/docker/{ID}")
    with waiting_shell() as pid:
        cgroup.enter(pid)
        name = naming.cgroup(cgroup.id)
    labels = ContainerLabels(ID, ID[:12], "docker", "")
    assert name == CgroupName(cgroup.path, labels, "")
    cgroup.remove()
    assert naming.cgroup(cgroup.id) == name
    naming.close()


def test_a_cgroup_outside_of_containers(world: World) -> None:
    """A service has its path and nothing else, and nothing better is waited for."""
    assert world.name("/system.slice/cron.service") == CgroupName("/system.slice/cron.service")
    world.pods.tell(ID)
    assert world.naming.updates() == NOTHING


def test_a_container_is_named_by_its_runtime(world: World) -> None:
    """Outside of Kubernetes the runtime's file has the name, which is there when it is read."""
    config = world.root / f"var/lib/docker/containers/{ID}/config.v2.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"Name": "/shop"}', encoding="utf-8")
    path, labels = f"/docker/{ID}", ContainerLabels(ID, "shop", "docker", "")
    assert world.name(path).container == replace(labels, container_name=ID[:12])
    assert world.read() == NameUpdates({7: CgroupName(path, labels)})
    assert world.name(path).container == labels


def test_a_container_is_named_by_its_pod(world: World) -> None:
    """The pod's specification has the name, and its uid is the pod."""
    world.pods.tell(ID)
    path = f"/kubepods/pod{UID}/{ID}"
    labels = ContainerLabels(ID, "web", "kubernetes", UID)
    assert world.name(path) == CgroupName(path, labels, UID)
    assert world.naming.updates() == NOTHING


def test_a_container_of_a_pod_whose_path_does_not_tell(world: World) -> None:
    """A container that the API puts in a pod is in it, whatever its cgroup is called."""
    world.pods.tell(ID)
    assert world.name(f"/docker/{ID}").pod_id == UID


def test_without_kubernetes_the_path_still_tells_the_pod(world: World) -> None:
    """With no API at all there are pods by uid, and none is waited for."""
    lonely = world.named_by(None)
    lonely.learn_cgroups([CgroupEvent(7, f"/kubepods/pod{UID}/{ID}", removed=False)])
    name = lonely.cgroup(7)
    assert name.container == ContainerLabels(ID, ID[:12], "kubernetes", UID)
    assert name.pod_id == UID
    assert lonely.pod(UID) == PodLabels(UID, "", "")
    assert lonely.updates() == NOTHING


def test_a_container_the_api_learns_of_later(world: World) -> None:
    """The better name comes once, when the pod index has it."""
    path = f"/kubepods/pod{UID}/{ID}"
    before = world.name(path)
    assert world.naming.updates() == NOTHING
    world.pods.tell(ID)
    after = CgroupName(path, ContainerLabels(ID, "web", "kubernetes", UID), UID)
    assert before != after
    assert world.naming.updates() == NameUpdates({7: after}, {UID: LABELS})
    assert world.naming.updates() == NOTHING


def test_a_static_pod_gets_its_uid_with_its_name(world: World) -> None:
    """All cgroups of a static pod, the pause container's too, move to the API's uid."""
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}/{ID}", 7))
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}/{PAUSE_ID}", 8))
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}", 9))
    world.pods.tell(ID, cgroup_uid=HASH)
    updates = world.naming.updates()
    assert {cgroup_id: name.pod_id for cgroup_id, name in updates.cgroups.items()} == {
        7: UID,
        8: UID,
        9: UID,
    }
    pause = ContainerLabels(PAUSE_ID, PAUSE_ID[:12], "kubernetes", UID)
    assert updates.cgroups[8].container == pause
    assert updates.pods == {HASH: LABELS}


def test_a_static_pod_whose_mirror_is_made_anew_moves_along(world: World) -> None:
    """Deleted at the API and back under another uid, the pod that the ledger has is renamed."""
    world.pods.tell(ID, cgroup_uid=HASH)
    world.name(f"/kubepods/pod{HASH}/{ID}")
    assert world.naming.pod(UID) == LABELS
    world.pods.index.remove(UID)
    assert world.naming.updates() == NOTHING
    world.pods.tell(uid="second", cgroup_uid=HASH)
    moved = PodLabels("second", "shop-1", "shop")
    # A question in between is answered with the new id, and the update comes all the same.
    assert world.name(f"/kubepods/pod{HASH}/{ID}").pod_id == "second"
    assert [world.naming.pod(pod_id) for pod_id in (HASH, UID, "second")] == [moved] * 3
    assert world.naming.updates() == NameUpdates({}, {UID: moved})
    assert world.naming.updates() == NOTHING
    world.pods.index.remove("second")
    world.pods.tell(uid="third", cgroup_uid=HASH)
    assert world.naming.updates().pods == {"second": PodLabels("third", "shop-1", "shop")}


def test_many_containers_are_updated_a_few_at_a_time(world: World) -> None:
    """After an outage no interval looks at all that waits."""
    ids = [f"{number:064x}" for number in range(2 * MAX_RETRIES)]
    for number, container_id in enumerate(ids):
        world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{container_id}", number + 2))
    world.pods.tell(*ids)
    assert [len(world.naming.updates().cgroups) for _ in range(3)] == [MAX_RETRIES, MAX_RETRIES, 0]


def test_many_that_stay_unknown_delay_no_other(world: World) -> None:
    """A container of a pod is named at once behind hundreds that are of no pod."""
    for number in range(4 * MAX_RETRIES):
        world.naming.cgroup(world.make(f"/docker/{number:064x}", number + 100))
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.pods.tell(ID)
    assert list(world.naming.updates().cgroups) == [7]


def test_the_living_are_named_after_an_outage_full_of_short_pods(world: World) -> None:
    """However many come and go while the API is down, they cost the others no name."""
    living = {number: f"{number:064x}" for number in range(1, 31)}
    for number, container_id in living.items():
        world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{container_id}", number))
    gone = {number: f"{number:064x}" for number in range(100, 100 + FEW_PENDING + 100)}
    for number, container_id in gone.items():
        path = f"/kubepods/pod{HASH}/{container_id}"
        world.naming.cgroup(world.make(path, number))
        world.remove(path, number)
        assert world.naming.updates() == NOTHING
    world.pods.tell(*living.values(), *gone.values())
    first = list(world.naming.updates().cgroups)
    assert first[:30] == list(living)
    assert len(first) == MAX_RETRIES
    # Of those that are gone the latest are named in their turn.
    rest = iter(lambda: world.naming.updates().cgroups, {})
    assert list(gone)[-1] in {cgroup_id for cgroups in rest for cgroup_id in cgroups}


def test_pauses_of_ended_pods_delay_no_other(world: World) -> None:
    """A container is named at once, whatever number of pods came and went before it."""
    for number in range(FEW_PENDING):
        uid = f"{number:032x}"
        path = f"/kubepods/pod{uid}/{number:064x}"
        world.pods.tell(uid=uid)
        world.naming.cgroup(world.make(path, number + 100))
        world.remove(path, number + 100)
    world.naming.updates()
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.pods.tell(ID)
    assert list(world.naming.updates().cgroups) == [7]


def test_container_the_api_does_not_know_is_waited_for_a_while(world: World) -> None:
    """The time runs from the first change that could have been about it, not through an outage."""
    world.pods.tell()
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{PAUSE_ID}", 8))
    world.clock.now_s = 10 * UNKNOWN_RETENTION_S
    for seconds in (0.0, UNKNOWN_RETENTION_S - 1.0):
        world.clock.now_s += seconds
        world.pods.tell(uid=f"other-{seconds}")
        assert world.naming.updates() == NOTHING
    world.pods.tell(ID)
    assert list(world.naming.updates().cgroups) == [7]
    world.clock.now_s += 1.0
    world.pods.tell(uid="another")
    assert world.naming.updates() == NOTHING
    world.pods.tell(ID, PAUSE_ID)
    assert world.naming.updates() == NOTHING


def test_container_that_is_not_listed_any_more_gets_no_name(world: World) -> None:
    """What ended longer ago than ended workloads are listed waits for no name."""
    path = f"/kubepods/pod{UID}/{ID}"
    world.name(path)
    world.remove(path, 7)
    world.clock.now_s = 1000.0
    world.naming.learn_cgroups([])
    world.pods.tell(ID)
    assert world.naming.updates() == NOTHING


def test_a_path_that_is_found_later(world: World) -> None:
    """A cgroup whose event comes after its first record is named by then."""
    assert world.naming.cgroup(7) == NO_CGROUP
    world.make(f"/docker/{ID}")
    world.clock.now_s = RETRY_S
    updates = world.naming.updates().cgroups
    assert updates[7].container_id == ID


def test_a_path_that_is_never_found(world: World) -> None:
    """A cgroup that nobody can name is given up after a while."""
    world.naming.cgroup(7)
    for _ in range(int(GIVE_UP_S / RETRY_S)):
        world.clock.now_s += RETRY_S
        assert world.naming.updates() == NOTHING
    world.make(f"/docker/{ID}")
    world.clock.now_s += RETRY_S
    assert world.naming.updates() == NOTHING


# --- pods


def test_a_pod_the_api_knows(world: World) -> None:
    """A pod has its name and namespace, by its uid and by a static pod's hash."""
    world.pods.tell(ID, cgroup_uid=HASH)
    assert (world.naming.pod(UID), world.naming.pod(HASH)) == (LABELS, LABELS)


def test_a_pod_the_api_learns_of_later(world: World) -> None:
    """A pod known by its uid is named once the index has it, before its container is."""
    world.name(f"/kubepods/pod{UID}/{ID}")
    assert world.naming.pod(UID) == PodLabels(UID, "", "")
    assert world.naming.updates() == NOTHING
    world.pods.tell()
    assert world.naming.updates() == NameUpdates({}, {UID: LABELS})
    assert world.naming.updates() == NOTHING
    world.pods.tell(ID)
    assert list(world.naming.updates().cgroups) == [7]


# --- units


def test_units_are_named_where_they_are_wanted(world: World) -> None:
    """The unit of a cgroup is part of its name only where units are wanted."""
    event = CgroupEvent(7, "/system.slice/cron.service", removed=False)
    with_units = world.named_by(None, levels=frozenset({"unit"}))
    with_units.learn_cgroups([event])
    assert with_units.cgroup(7).groups == (("unit", UnitLabels("cron.service", "systemd")),)
    assert world.name(event.path).groups == ()


# --- processes


def test_a_regular_process(world: World) -> None:
    """A process has its executable."""
    with waiting_shell() as pid:
        name = world.process(pid, start_ns_of(pid), "sh")
    assert name == ProcessName(SHELL, None)


def test_a_process_that_is_gone(world: World) -> None:
    """A process that ended before it was read is known by what the kernel gave."""
    with waiting_shell() as pid:
        start_ns = start_ns_of(pid)
    assert world.process(pid, start_ns, "sh") == ProcessName()


def test_a_vm_in_a_container_is_both(world: World) -> None:
    """KubeVirt's QEMU has its VM, whatever container it is in."""
    cgroup = world.name(f"/kubepods/pod{UID}/{ID}")
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        start_ns = start_ns_of(pid)
        assert world.process(pid, start_ns, "qemu-kvm") == ProcessName(SHELL)
        updates = world.read()
    vm = VmLabels("web", "web", "kvm")
    assert updates.processes == {(pid, start_ns): ProcessName(SHELL, vm)}
    assert cgroup.container_id == ID


def test_a_kernel_thread_belongs_to_the_vm_in_its_name(world: World) -> None:
    """The work of vhost is its VM's, and another kernel thread's is of no VM."""
    kthreadd, start_ns = 2, start_ns_of(2)
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        first = world.process(kthreadd, start_ns, f"vhost-{pid}")
        updates = world.read()
        second = world.process(kthreadd, start_ns, f"vhost-{pid}")
    helper = ProcessName("", VmLabels("web", "web", "kvm"))
    assert first == ProcessName()
    assert updates.processes == {(kthreadd, start_ns): helper}
    assert second == helper
    assert world.process(kthreadd, start_ns, "kthreadd") == ProcessName()


def test_a_process_cannot_pose_as_a_helper_of_a_vm(world: World) -> None:
    """Only a kernel thread is believed to be one."""
    own = os.getpid()
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        name = world.process(own, start_ns_of(own), f"vhost-{pid}")
    assert name.vm is None


# --- exec events


def exec_of(pid: int, exe: str, *arguments: str, start_ns: int = 5, exec_id: int = 1) -> ExecEvent:
    """Return the exec of a process."""
    return ExecEvent(pid, start_ns, exec_id, exe, arguments)


def test_a_process_that_lived_for_a_millisecond_has_its_executable(world: World) -> None:
    """What the kernel recorded at exec names a process that has ended; /proc is not needed."""
    world.naming.learn_execs([exec_of(4_194_000, "/bin/true", "true")])
    named, other = (
        world.naming.process(ProcessIdentity(4_194_000, 5, exec_id, "true", is_alive=False))
        for exec_id in (1, 2)
    )
    assert (named, other) == (ProcessName("/bin/true"), ProcessName())
    assert not world.naming.has_work


def test_the_exec_event_decides_over_procfs(world: World) -> None:
    """A living process has the path of its exec event, and later sources do not change it."""
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        start_ns = start_ns_of(pid)
        world.naming.learn_execs([exec_of(pid, "/usr/bin/qemu-kvm", "qemu-kvm", start_ns=start_ns)])
        world.naming.begin_batch(0.0)
        first = world.process(pid, start_ns, "qemu-kvm")
        world.naming.begin_batch(0.0)
        world.naming.begin_batch(0.0)
        world.naming.work(lambda: 1.0)
        updates = world.read()
    assert first == ProcessName("/usr/bin/qemu-kvm")
    vm = VmLabels("web", "web", "kvm")
    assert updates.processes == {(pid, start_ns): ProcessName("/usr/bin/qemu-kvm", vm)}


def test_vm_that_was_named_in_the_middle_of_its_exec(world: World) -> None:
    """An exec event that comes after its process was named has the VM read all the same."""
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        start_ns = start_ns_of(pid)
        assert world.process(pid, start_ns, "sh") == ProcessName(SHELL)
        world.naming.learn_execs([exec_of(pid, SHELL, "qemu-kvm", start_ns=start_ns)])
        world.naming.work(lambda: 1.0)
        updates = world.read()
    vm = VmLabels("web", "web", "kvm")
    assert updates.processes == {(pid, start_ns): ProcessName(SHELL, vm)}


def test_an_unresolved_executable_is_read_from_procfs(world: World) -> None:
    """An exec event without a path leaves a living process to /proc."""
    with waiting_shell() as pid:
        world.naming.learn_execs([exec_of(pid, "", "sh", start_ns=start_ns_of(pid))])
        assert world.process(pid, start_ns_of(pid), "sh") == ProcessName(SHELL)


def test_exec_events_last_for_two_batches(world: World) -> None:
    """What is not used by then is forgotten."""
    identity = ProcessIdentity(4_194_000, 5, 1, "true", is_alive=False)
    world.naming.learn_execs([exec_of(4_194_000, "/bin/true", "true")])
    exes = []
    for _ in range(3):
        exes.append(world.naming.process(identity).exe)
        world.naming.begin_batch(1.0)
    assert exes == ["/bin/true", "/bin/true", ""]


def test_exec_events_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a storm of execs the first are kept."""
    monkeypatch.setattr("kepler_ebpf.names.processes.process_names.MAX_EVENTS", 10)
    world.naming.learn_execs([exec_of(4_194_000 + number, "/bin/true") for number in range(20)])
    exes = [
        world.naming.process(ProcessIdentity(4_194_000 + number, 5, 1, "true", is_alive=False)).exe
        for number in range(20)
    ]
    assert exes == ["/bin/true"] * 10 + [""] * 10


# --- the budget

PIDS = range(1, 5)


@dataclass
class Reads:
    """A naming of processes in a procfs of its own; each one that is read takes a second."""

    root: Path
    now_s: float = 0.0

    def __post_init__(self) -> None:
        """Make the processes."""
        for pid in PIDS:
            process = self.root / str(pid)
            process.mkdir()
            (process / "stat").write_text(f"{pid} (sh) S 1 1 1 0 -1 0 {'0 ' * 10}1 0 5 0 0")
            (process / "cmdline").write_text("sh")
            (process / "exe").symlink_to(f"/bin/{pid}")
        options = NamingOptions(procfs=str(self.root))
        hierarchy = CgroupHierarchy("v2", None, None)
        self.naming = HostNaming(hierarchy, options, clock=self.clock)

    def clock(self) -> float:
        """Return the time; to read a process takes from one call to the next."""
        self.now_s += 1.0
        return self.now_s

    def batch(self, *pids: int, reads: float) -> list[str]:
        """Begin a batch with time for so many *reads*, and return each pid's exe."""
        self.naming.begin_batch(reads)
        return [self.exe(pid) for pid in pids]

    def exe(self, pid: int) -> str:
        """Ask for a process as the ledger does."""
        return self.naming.process(ProcessIdentity(pid, 50_000_000, 1, "sh")).exe

    def work(self, reads: int) -> None:
        """Let it work for as long as so many *reads* take."""
        left = iter([1.0] * reads)
        self.naming.work(lambda: next(left, MARGIN_S))

    def updates(self) -> dict[int, str]:
        """Return what it has found of processes, by pid."""
        found = self.naming.updates().processes
        return {pid: name.exe for (pid, _), name in found.items()}


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    """Give a naming whose time a test counts in reads."""
    return Reads(tmp_path)


def test_within_the_budget_names_come_at_once(reads: Reads) -> None:
    """Nothing is pending then."""
    assert reads.batch(1, 2, reads=5) == ["/bin/1", "/bin/2"]
    assert not reads.naming.has_work
    assert reads.updates() == {}


def test_beyond_the_budget_processes_wait(reads: Reads) -> None:
    """They have no exe at first; the time between intervals finds it, the newest first."""
    assert reads.batch(*PIDS, reads=1.5) == ["/bin/1", "/bin/2", "", ""]
    assert reads.naming.has_work
    reads.work(1)
    assert reads.updates() == {4: "/bin/4"}
    reads.work(100)
    assert reads.updates() == {3: "/bin/3"}
    assert reads.updates() == {}


def test_budget_is_granted_anew_for_each_batch(reads: Reads) -> None:
    """One batch full of new processes does not silence the next."""
    assert reads.batch(1, 2, reads=0.5) == ["/bin/1", ""]
    assert reads.batch(3, reads=1) == ["/bin/3"]


def test_no_work_where_the_interval_is_due(reads: Reads) -> None:
    """With no time left nothing is read, and nothing forgotten."""
    reads.batch(1, reads=0)
    reads.work(0)
    assert reads.updates() == {}
    reads.work(1)
    assert reads.updates() == {1: "/bin/1"}


def test_newer_answer_is_not_replaced_by_an_older_one(reads: Reads) -> None:
    """A process that called exec after it was read keeps the name of its new program."""
    reads.batch(1, reads=0)
    reads.work(1)
    (reads.root / "1/exe").unlink()
    (reads.root / "1/exe").symlink_to("/bin/false")
    assert reads.batch(1, reads=1) == ["/bin/false"]
    assert reads.updates() == {}


def test_answered_process_is_pending_no_longer(reads: Reads) -> None:
    """What was postponed once and answered since is not read again."""
    reads.batch(1, reads=0)
    reads.batch(1, reads=1)
    assert not reads.naming.has_work


def test_oldest_processes_make_room(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processes that wait the newest stay."""
    monkeypatch.setattr("kepler_ebpf.names.processes.process_names.MAX_UNREAD", 2)
    reads.batch(*PIDS, reads=0)
    reads.work(100)
    assert list(reads.updates()) == [4, 3]


def test_names_are_found_in_order(reads: Reads) -> None:
    """Cgroups that are tried again come before processes."""
    reads.batch(1, reads=0)
    reads.naming.cgroup(7)
    reads.naming.learn_cgroups([CgroupEvent(7, f"/docker/{ID}", removed=False)])
    reads.now_s += RETRY_S
    reads.work(2)
    updates = reads.naming.updates()
    assert (list(updates.cgroups), list(updates.processes)) == ([7], [])


def test_names_of_new_containers_are_read_before_their_files_go(world: World) -> None:
    """The runtime's file is read between intervals, before processes, and remembered."""
    config = world.root / f"var/lib/docker/containers/{ID}/config.v2.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"Name": "/shop"}', encoding="utf-8")
    world.make(f"/docker/{ID}")
    assert world.naming.has_work
    world.naming.work(lambda: 1.0)
    world.read()
    config.unlink()
    container = world.naming.cgroup(7).container
    assert container is not None
    assert container.container_name == "shop"


# --- lost events


def test_lost_events_have_every_cgroup_checked(tree: CgroupTree, tmp_path: Path) -> None:
    """A cgroup whose removal was lost is found gone by the work after a resync, and only then."""
    naming = HostNaming(tree.hierarchy, NamingOptions(host_root=str(tmp_path)))
    kept, brief = tree.make("/kept"), tree.make("/brief")
    for cgroup in (kept, brief):
        naming.cgroup(cgroup.id)
    brief.remove()
    naming.work(lambda: 1.0)
    assert naming.take_ended_cgroups() == ()
    naming.resync()
    assert naming.has_work
    naming.work(lambda: 1.0)
    assert (naming.take_ended_cgroups(), naming.has_work) == ((brief.id,), False)
    naming.close()


# --- what is not understood


def test_a_path_like_a_containers_is_reported_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What looks like a container and is not understood is logged with its path, once a kind."""
    for number in range(5):
        world.naming.cgroup(world.make(f"/garden/{number}e2c0f64-9b1d-4f2a", number + 10))
    world.naming.cgroup(world.make("/system.slice/docker.service", 9))
    assert [record.args for record in caplog.records] == [("/garden/0e2c0f64-9b1d-4f2a",)]


def test_reports_are_bounded(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """However many kinds of paths there are, few are logged."""
    for number in range(2 * MAX_REPORTED):
        path = "/garden/" + "x" * number + "/0e2c0f64"
        world.naming.cgroup(world.make(path, number + 10))
    assert len(caplog.records) == MAX_REPORTED


# --- Kata


@pytest.mark.parametrize("overhead_first", [True, False])
def test_overhead_of_kata_is_its_sandboxs(world: World, *, overhead_first: bool) -> None:
    """Sandbox and overhead are one container of the pod, in whatever order they come."""
    paths = {7: f"/kubepods/pod{UID}/kata_{ID}", 8: f"/kata_overhead/{ID}"}
    named = {}
    for cgroup_id in sorted(paths, reverse=overhead_first):
        named[cgroup_id] = world.naming.cgroup(world.make(paths[cgroup_id], cgroup_id))
    world.clock.now_s = RETRY_S
    named |= world.naming.updates().cgroups
    sandbox = ContainerLabels(ID, ID[:12], "kubernetes", UID)
    assert named == {key: CgroupName(path, sandbox, UID) for key, path in paths.items()}
