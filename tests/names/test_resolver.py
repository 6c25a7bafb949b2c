"""The ledger's questions answered from real cgroups, real processes and a real pod index."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from processes import SHELL, start_ns_of, waiting_shell

from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, UnitLabels, VmLabels
from kepler_ebpf.names.cgroups.paths import UNKNOWN_RETRY_S, CgroupHierarchy, CgroupPaths
from kepler_ebpf.names.kubernetes.index import (
    UNKNOWN_RETENTION_S,
    Pod,
    PodContainer,
    PodIndex,
    PodState,
)
from kepler_ebpf.names.resolver import (
    GIVE_UP_S,
    RENEWALS,
    WAITING_LIMIT,
    HostPaths,
    NameResolver,
    Renewed,
)

ID = "0123456789abcdef" * 4
PAUSE_ID = "fedcba9876543210" * 4
UID = "6a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
HASH = "0f" * 16
LABELS = PodLabels(UID, "shop-1", "shop")
NOTHING = Renewed({}, {})
NO_CGROUP = CgroupName("")


@dataclass
class Event:
    """A cgroup event of the kernel side."""

    cgroup_id: int
    path: str
    removed: bool = False


@dataclass
class Pods:
    """A pod source without a server."""

    index: PodIndex = field(default_factory=PodIndex)

    def find(self, container_id: str) -> PodContainer | None:
        """Look in the index."""
        return self.index.find(container_id)

    def tell(self, *container_ids: str, uid: str = UID, cgroup_uid: str = "") -> None:
        """Learn of the pod, with the containers named web that it has so far."""
        cgroup_uid = cgroup_uid or uid
        pod = Pod(uid, "shop-1", "shop", "node", "", "", "", (), cgroup_uid, "2026-01-01T00:00:00Z")
        containers = tuple(PodContainer(container_id, "web", pod) for container_id in container_ids)
        self.index.apply(PodState(pod, containers))


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
        self.paths = CgroupPaths(CgroupHierarchy("v2", None, None), clock=self.clock)
        places = HostPaths(host_root=str(root))
        self.naming = NameResolver(self.paths, places, self.pods, self.clock)
        self.lonely = NameResolver(self.paths, places, None, self.clock)

    def make(self, path: str, cgroup_id: int = 7) -> int:
        """Have the kernel tell of a cgroup."""
        self.paths.learn([Event(cgroup_id, path)])
        return cgroup_id

    def remove(self, path: str, cgroup_id: int) -> None:
        """Have the kernel tell that a cgroup is gone."""
        self.paths.learn([Event(cgroup_id, path, removed=True)])

    def name(self, path: str) -> CgroupName:
        """Ask for the name of a new cgroup."""
        return self.naming.cgroup(self.make(path))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a naming with parts that a test moves."""
    return World(tmp_path)


# --- cgroups


@pytest.fixture(params=hierarchies(), ids=lambda hierarchy: hierarchy.name)
def tree(request: pytest.FixtureRequest) -> Iterator[CgroupTree]:
    """Give real cgroups in each hierarchy of this host."""
    with cgroup_tree(request.param) as made:
        yield made


def test_container_of_a_real_cgroup(tree: CgroupTree, tmp_path: Path) -> None:
    """A cgroup shaped like docker's is docker's container, and keeps its name when removed."""
    paths = CgroupPaths(tree.hierarchy)
    naming = NameResolver(paths, HostPaths(host_root=str(tmp_path)))
    cgroup = tree.make(f"/docker/{ID}")
    with waiting_shell() as pid:
        cgroup.enter(pid)
        name = naming.cgroup(cgroup.id)
    labels = ContainerLabels(ID, ID[:12], "docker", "")
    assert name == CgroupName(cgroup.path, labels, "")
    cgroup.remove()
    assert naming.cgroup(cgroup.id) == name
    paths.close()


def test_a_cgroup_outside_of_containers(world: World) -> None:
    """A service has its path and nothing else, and nothing better is waited for."""
    assert world.name("/system.slice/cron.service") == CgroupName("/system.slice/cron.service")
    world.pods.tell(ID)
    assert world.naming.renewed() == NOTHING


def test_a_container_is_named_by_its_runtime(world: World) -> None:
    """Outside of Kubernetes the runtime's file has the name."""
    config = world.root / f"var/lib/docker/containers/{ID}/config.v2.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"Name": "/shop"}', encoding="utf-8")
    name = world.name(f"/docker/{ID}")
    assert name.container == ContainerLabels(ID, "shop", "docker", "")


def test_a_container_is_named_by_its_pod(world: World) -> None:
    """The pod's specification has the name, and its uid is the pod."""
    world.pods.tell(ID)
    path = f"/kubepods/pod{UID}/{ID}"
    labels = ContainerLabels(ID, "web", "kubernetes", UID)
    assert world.name(path) == CgroupName(path, labels, UID)
    assert world.naming.renewed() == NOTHING


def test_a_container_of_a_pod_whose_path_does_not_tell(world: World) -> None:
    """A container that the API puts in a pod is in it, whatever its cgroup is called."""
    world.pods.tell(ID)
    assert world.name(f"/docker/{ID}").pod_id == UID


def test_without_kubernetes_the_path_still_tells_the_pod(world: World) -> None:
    """With no API at all there are pods by uid, and none is waited for."""
    name = world.lonely.cgroup(world.make(f"/kubepods/pod{UID}/{ID}"))
    assert name.container == ContainerLabels(ID, ID[:12], "kubernetes", UID)
    assert name.pod_id == UID
    assert world.lonely.pod(UID) == PodLabels(UID, "", "")
    assert world.lonely.renewed() == NOTHING


def test_a_container_the_api_tells_of_later(world: World) -> None:
    """The better name comes once, when the pod index has it."""
    path = f"/kubepods/pod{UID}/{ID}"
    before = world.name(path)
    assert world.naming.renewed() == NOTHING
    world.pods.tell(ID)
    after = CgroupName(path, ContainerLabels(ID, "web", "kubernetes", UID), UID)
    assert before != after
    assert world.naming.renewed() == Renewed({7: after}, {UID: LABELS})
    assert world.naming.renewed() == NOTHING


def test_a_static_pod_gets_its_uid_with_its_name(world: World) -> None:
    """All cgroups of a static pod, the pause container's too, move to the API's uid."""
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}/{ID}", 7))
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}/{PAUSE_ID}", 8))
    world.naming.cgroup(world.make(f"/kubepods/pod{HASH}", 9))
    world.pods.tell(ID, cgroup_uid=HASH)
    renewed = world.naming.renewed()
    assert {cgroup_id: name.pod_id for cgroup_id, name in renewed.cgroups.items()} == {
        7: UID,
        8: UID,
        9: UID,
    }
    pause = ContainerLabels(PAUSE_ID, PAUSE_ID[:12], "kubernetes", UID)
    assert renewed.cgroups[8].container == pause
    assert renewed.pods == {HASH: LABELS}


def test_a_static_pod_whose_mirror_is_made_anew_moves_along(world: World) -> None:
    """Deleted at the API and back under another uid, the pod that the ledger has is renamed."""
    world.pods.tell(ID, cgroup_uid=HASH)
    world.name(f"/kubepods/pod{HASH}/{ID}")
    assert world.naming.pod(UID) == LABELS
    world.pods.index.remove(UID)
    assert world.naming.renewed() == NOTHING
    world.pods.tell(uid="second", cgroup_uid=HASH)
    moved = PodLabels("second", "shop-1", "shop")
    # Whoever asks in between is told the new id, and the ledger of the move all the same.
    assert world.name(f"/kubepods/pod{HASH}/{ID}").pod_id == "second"
    assert [world.naming.pod(pod_id) for pod_id in (HASH, UID, "second")] == [moved] * 3
    assert world.naming.renewed() == Renewed({}, {UID: moved})
    assert world.naming.renewed() == NOTHING
    world.pods.index.remove("second")
    world.pods.tell(uid="third", cgroup_uid=HASH)
    assert world.naming.renewed().pods == {"second": PodLabels("third", "shop-1", "shop")}


def test_many_containers_are_renewed_a_few_at_a_time(world: World) -> None:
    """After an outage no interval looks at all that waits."""
    ids = [f"{number:064x}" for number in range(2 * RENEWALS)]
    for number, container_id in enumerate(ids):
        world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{container_id}", number + 2))
    world.pods.tell(*ids)
    assert [len(world.naming.renewed().cgroups) for _ in range(3)] == [RENEWALS, RENEWALS, 0]


def test_many_that_are_never_renewed_keep_nobody_waiting(world: World) -> None:
    """A container of a pod is named at once behind hundreds that are of no pod."""
    for number in range(4 * RENEWALS):
        world.naming.cgroup(world.make(f"/docker/{number:064x}", number + 100))
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.pods.tell(ID)
    assert list(world.naming.renewed().cgroups) == [7]


def test_the_living_are_named_after_an_outage_full_of_short_pods(world: World) -> None:
    """However many come and go while the API is down, they cost the others no name."""
    living = {number: f"{number:064x}" for number in range(1, 31)}
    for number, container_id in living.items():
        world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{container_id}", number))
    gone = {number: f"{number:064x}" for number in range(100, 100 + WAITING_LIMIT + 100)}
    for number, container_id in gone.items():
        path = f"/kubepods/pod{HASH}/{container_id}"
        world.naming.cgroup(world.make(path, number))
        world.remove(path, number)
        assert world.naming.renewed() == NOTHING
    world.pods.tell(*living.values(), *gone.values())
    first = list(world.naming.renewed().cgroups)
    assert first[:30] == list(living)
    assert len(first) == RENEWALS
    # Of those that are gone the latest are named in their turn.
    rest = iter(lambda: world.naming.renewed().cgroups, {})
    assert list(gone)[-1] in {cgroup_id for cgroups in rest for cgroup_id in cgroups}


def test_pauses_of_ended_pods_keep_nobody_waiting(world: World) -> None:
    """A container is named at once, whatever number of pods came and went before it."""
    for number in range(WAITING_LIMIT):
        uid = f"{number:032x}"
        path = f"/kubepods/pod{uid}/{number:064x}"
        world.pods.tell(uid=uid)
        world.naming.cgroup(world.make(path, number + 100))
        world.remove(path, number + 100)
    world.naming.renewed()
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.pods.tell(ID)
    assert list(world.naming.renewed().cgroups) == [7]


def test_container_the_api_does_not_know_is_waited_for_a_while(world: World) -> None:
    """The time runs from the first word that could have been about it, not through an outage."""
    world.pods.tell()
    world.name(f"/kubepods/pod{UID}/{ID}")
    world.naming.cgroup(world.make(f"/kubepods/pod{UID}/{PAUSE_ID}", 8))
    world.clock.now_s = 10 * UNKNOWN_RETENTION_S
    for seconds in (0.0, UNKNOWN_RETENTION_S - 1.0):
        world.clock.now_s += seconds
        world.pods.tell(uid=f"other-{seconds}")
        assert world.naming.renewed() == NOTHING
    world.pods.tell(ID)
    assert list(world.naming.renewed().cgroups) == [7]
    world.clock.now_s += 1.0
    world.pods.tell(uid="another")
    assert world.naming.renewed() == NOTHING
    world.pods.tell(ID, PAUSE_ID)
    assert world.naming.renewed() == NOTHING


def test_container_that_is_not_listed_any_more_is_not_renewed(world: World) -> None:
    """What ended longer ago than ended workloads are listed waits for no name."""
    path = f"/kubepods/pod{UID}/{ID}"
    world.name(path)
    world.remove(path, 7)
    world.clock.now_s = 1000.0
    world.paths.learn([])
    world.pods.tell(ID)
    assert world.naming.renewed() == NOTHING


def test_a_path_that_is_found_later(world: World) -> None:
    """A cgroup whose event comes after its first record is named by then."""
    assert world.naming.cgroup(7) == NO_CGROUP
    world.make(f"/docker/{ID}")
    world.clock.now_s = UNKNOWN_RETRY_S
    renewed = world.naming.renewed().cgroups
    assert renewed[7].container_id == ID


def test_a_path_that_is_never_found(world: World) -> None:
    """A cgroup that nobody can name is given up after a while."""
    world.naming.cgroup(7)
    for _ in range(int(GIVE_UP_S / UNKNOWN_RETRY_S)):
        world.clock.now_s += UNKNOWN_RETRY_S
        assert world.naming.renewed() == NOTHING
    world.make(f"/docker/{ID}")
    world.clock.now_s += UNKNOWN_RETRY_S
    assert world.naming.renewed() == NOTHING


# --- pods


def test_a_pod_the_api_knows(world: World) -> None:
    """A pod has its name and namespace, by its uid and by a static pod's hash."""
    world.pods.tell(ID, cgroup_uid=HASH)
    assert (world.naming.pod(UID), world.naming.pod(HASH)) == (LABELS, LABELS)


def test_a_pod_the_api_tells_of_later(world: World) -> None:
    """A pod known by its uid is named once the index has it, before its container is."""
    world.name(f"/kubepods/pod{UID}/{ID}")
    assert world.naming.pod(UID) == PodLabels(UID, "", "")
    assert world.naming.renewed() == NOTHING
    world.pods.tell()
    assert world.naming.renewed() == Renewed({}, {UID: LABELS})
    assert world.naming.renewed() == NOTHING
    world.pods.tell(ID)
    assert list(world.naming.renewed().cgroups) == [7]


# --- units


def test_units_are_told_when_asked_for(world: World) -> None:
    """The unit of a cgroup is part of its name only where units are wanted."""
    cgroup_id = world.make("/system.slice/cron.service")
    wanting = NameResolver(world.paths, HostPaths(host_root=str(world.root)), units=True)
    assert wanting.cgroup(cgroup_id).unit == UnitLabels("cron.service", "systemd")
    assert world.naming.cgroup(cgroup_id).unit is None


# --- processes


def test_a_regular_process(world: World) -> None:
    """A process has its executable."""
    with waiting_shell() as pid:
        name = world.naming.process(pid, start_ns_of(pid), "sh", NO_CGROUP)
    assert name == ProcessName(SHELL, None)


def test_a_process_that_is_gone(world: World) -> None:
    """A process that ended before it was asked about is known by what the kernel gave."""
    with waiting_shell() as pid:
        start_ns = start_ns_of(pid)
    assert world.naming.process(pid, start_ns, "sh", NO_CGROUP) == ProcessName()


def test_a_machine_in_a_container_is_both(world: World) -> None:
    """KubeVirt's QEMU has its machine, whatever container it is in."""
    cgroup = world.name(f"/kubepods/pod{UID}/{ID}")
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        name = world.naming.process(pid, start_ns_of(pid), "qemu-kvm", cgroup)
    assert name == ProcessName(SHELL, VmLabels("web", "web", "kvm"))
    assert cgroup.container_id == ID


def test_a_kernel_thread_belongs_to_the_machine_in_its_name(world: World) -> None:
    """The work of vhost is its machine's, and another kernel thread's is nobody's."""
    kthreadd, start_ns = 2, start_ns_of(2)
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        helper = world.naming.process(kthreadd, start_ns, f"vhost-{pid}", NO_CGROUP)
    assert helper == ProcessName("", VmLabels("web", "web", "kvm"))
    assert world.naming.process(kthreadd, start_ns, "kthreadd", NO_CGROUP) == ProcessName()


def test_a_process_cannot_pose_as_a_machines_helper(world: World) -> None:
    """Only a kernel thread is believed to be one."""
    own = os.getpid()
    with waiting_shell("-name", "web", name="qemu-kvm") as pid:
        name = world.naming.process(own, start_ns_of(own), f"vhost-{pid}", NO_CGROUP)
    assert name.vm is None
