"""Which paths are in a pod where Kubernetes is on: real cgroups and a real index of pods."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cgroup_tree import Cgroup, CgroupTree, cgroup_tree, hierarchies

from kepler_ebpf.model.names import CGROUP_V1_BIT, CgroupEvent, CgroupName
from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.kubernetes.index import NamedContainer, PodIndex
from kepler_ebpf.names.naming import HostNaming, NamingOptions

BANK, SHOP = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
WEB_ID, ATTACKER_ID, OTHER_ID = "ab" * 32, "cd" * 32, "ef" * 32
USER = "/user.slice/user-1000.slice/user@1000.service/app.slice"
SERVICE = "/system.slice/runner.service"
NOBODY = 65_534


@dataclass
class Pods:
    """A pod source without a server, which notes what it was asked to look for early."""

    index: PodIndex = field(default_factory=PodIndex)
    looked_for: list[str] = field(default_factory=list)

    def tell(self, uid: str, name: str, *container_ids: str) -> None:
        """Learn of a pod with containers of its own name."""
        containers = tuple((container_id, name) for container_id in container_ids)
        self.index.apply(PodInfo(uid, name, name, uid, "", "", "", "", (), "", containers))

    def find(self, container_id: str) -> NamedContainer | None:
        """Look a container up."""
        match = self.index.find(container_id)
        self.looked_for += [] if match else [container_id]
        return match


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give real cgroups in the hierarchy that is counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


@pytest.fixture
def pods() -> Pods:
    """Give an index with the pod of a bank, with one container, and that of an attacker."""
    pods = Pods()
    pods.tell(BANK, "bank", WEB_ID)
    pods.tell(SHOP, "attacker", ATTACKER_ID)
    return pods


@pytest.fixture
def naming(tree: CgroupTree, pods: Pods) -> Iterator[HostNaming]:
    """Give a naming with these pods."""
    made = HostNaming(tree.hierarchy, NamingOptions(host_root="/nonexistent"), pods)
    yield made
    made.close()


def in_pod(uid: str, container_id: str, root: str = "") -> str:
    """Return the path of a container below the kubelet's *root*."""
    return f"{root}/kubepods/burstable/pod{uid}/{container_id}"


def identity(name: CgroupName) -> tuple[str, str]:
    """Return the id of its container and of its pod."""
    return name.container_id, name.pod_id


def named(naming: HostNaming, cgroup: Cgroup) -> tuple[str, str]:
    """Name a cgroup as one that ran, and return its identity."""
    return identity(naming.cgroup(cgroup.id))


@pytest.mark.parametrize("real_first", [True, False])
@pytest.mark.parametrize("driver", ["kubepods", "systemd", "no pod"])
def test_a_user_takes_no_container(
    tree: CgroupTree, naming: HostNaming, driver: str, *, real_first: bool
) -> None:
    """Whatever a user calls a cgroup in the own slice, it is the user's own, and in no pod."""
    slice_ = f"kubepods.slice/kubepods-pod{BANK.replace('-', '_')}.slice"
    forged = {
        "kubepods": in_pod(BANK, WEB_ID, USER),
        "systemd": f"{USER}/{slice_}/cri-containerd-{WEB_ID}.scope",
        "no pod": f"{USER}/docker-{WEB_ID}.scope",
    }
    cgroups = {"real": tree.make(in_pod(BANK, WEB_ID)), "forged": tree.make(forged[driver])}
    order = ("real", "forged") if real_first else ("forged", "real")
    found = {which: named(naming, cgroups[which]) for which in order}
    assert found == {"real": (WEB_ID, BANK), "forged": (f"user-1000.slice/{WEB_ID}", "")}


def test_a_pod_takes_no_container_of_another(tree: CgroupTree, naming: HostNaming) -> None:
    """What a pod makes in its own cgroup is of that pod, and has no name of the other's."""
    real = tree.make(in_pod(BANK, WEB_ID))
    inside = in_pod(SHOP, ATTACKER_ID)
    forged = [in_pod(BANK, WEB_ID, inside), f"{inside}/docker/{WEB_ID}", f"{inside}/{WEB_ID}"]
    for path in forged:
        name = naming.cgroup(tree.make(path).id)
        assert identity(name) == (f"{ATTACKER_ID}/{WEB_ID}", SHOP)
        assert name.container
        assert name.container.container_name == WEB_ID[:12]
    assert named(naming, real) == (WEB_ID, BANK)


@pytest.mark.parametrize("part", [SERVICE, f"/docker/{OTHER_ID}", "/machine.slice/machine-a.scope"])
def test_what_is_not_where_the_kubelet_has_its_pods_is_in_none(
    tree: CgroupTree, naming: HostNaming, pods: Pods, part: str
) -> None:
    """A service or container with cgroups of its own takes none, nor has the kubelet asked."""
    assert named(naming, tree.make(in_pod(BANK, WEB_ID))) == (WEB_ID, BANK)
    for number, path in enumerate((in_pod(BANK, WEB_ID, part), f"{part}/docker-{WEB_ID}.scope")):
        container_id, pod_id = named(naming, tree.make(path))
        assert container_id.endswith(f"/{WEB_ID}"), number
        assert pod_id == ""
    made_up = in_pod(BANK, "12" * 32, part)
    assert named(naming, tree.make(made_up))[1] == ""
    assert pods.looked_for == []


def test_a_container_that_the_index_has_not_yet_is_not_taken(
    tree: CgroupTree, naming: HostNaming
) -> None:
    """Between its start and the index's word its id is its own as well."""
    assert named(naming, tree.make(in_pod(BANK, WEB_ID))) == (WEB_ID, BANK)
    assert named(naming, tree.make(in_pod(BANK, OTHER_ID))) == (OTHER_ID, BANK)
    forged = tree.make(f"{SERVICE}/docker-{OTHER_ID}.scope")
    assert named(naming, forged) == (f"{forged.path.rpartition('/')[0][1:]}/{OTHER_ID}", "")


def test_a_container_beside_kubernetes_is_itself(tree: CgroupTree, naming: HostNaming) -> None:
    """One of docker's on the same host has its id, as without Kubernetes."""
    assert named(naming, tree.make(in_pod(BANK, WEB_ID))) == (WEB_ID, BANK)
    assert named(naming, tree.make(f"/docker/{OTHER_ID}")) == (OTHER_ID, "")


def test_a_kubelet_in_a_container_has_its_pods(tree: CgroupTree, naming: HostNaming) -> None:
    """Below the cgroup of kind's node, k3d's or another, ids are those that the API has."""
    root = f"/docker/{OTHER_ID}/kubelet"
    assert named(naming, tree.make(in_pod(BANK, WEB_ID, root))) == (WEB_ID, BANK)
    assert named(naming, tree.make(in_pod(SHOP, "12" * 32, root))) == ("12" * 32, SHOP)
    assert named(naming, tree.make(f"/docker/{OTHER_ID}/docker/{WEB_ID}"))[1] == ""
    assert named(naming, tree.make(f"/docker/{OTHER_ID}")) == (OTHER_ID, "")


def test_a_cluster_in_a_pod_has_its_pods(tree: CgroupTree, naming: HostNaming) -> None:
    """Where the index is the inner cluster's, the pod that it is in is none of its own."""
    unknown = "77777777-2222-3333-4444-555555555555"
    root = f"{in_pod(unknown, OTHER_ID)}/k3s"
    assert named(naming, tree.make(in_pod(BANK, WEB_ID, root))) == (WEB_ID, BANK)


def test_root_is_not_learned_where_a_user_makes_cgroups(
    tree: CgroupTree, naming: HostNaming
) -> None:
    """A service that runs as another user has cgroups of its own, and does not lead astray."""
    forged = tree.make(in_pod(BANK, WEB_ID, SERVICE))
    os.chown(forged.directory.parents[3], NOBODY, NOBODY)
    named(naming, forged)
    assert named(naming, tree.make(in_pod(BANK, WEB_ID))) == (WEB_ID, BANK)
    assert named(naming, tree.make(in_pod(SHOP, ATTACKER_ID))) == (ATTACKER_ID, SHOP)
    again = tree.make(in_pod(SHOP, ATTACKER_ID, SERVICE))
    assert named(naming, again)[1] == ""


def test_root_is_learned_from_what_is_known_already(
    tree: CgroupTree, naming: HostNaming, pods: Pods
) -> None:
    """Of all the paths that there are when the index comes, whatever is named first."""
    pods.index.replace([])
    pods.index.expire()
    web, forged = (
        tree.make(in_pod("a" * 32, "ab" * 32)),
        tree.make(in_pod("a" * 32, "cd" * 32, SERVICE)),
    )
    for cgroup in (forged, web):
        naming.learn_cgroups([CgroupEvent(cgroup.id, cgroup.path, removed=False)])
    pods.tell("a" * 32, "late", "ab" * 32)
    assert named(naming, forged)[1] == ""
    assert named(naming, web) == ("ab" * 32, "a" * 32)


def test_root_further_up_takes_the_place_of_one_below(tree: CgroupTree, naming: HostNaming) -> None:
    """A container of root's own that is named first is right only until the kubelet's are seen."""
    forged = in_pod(BANK, WEB_ID, f"/docker/{OTHER_ID}")
    named(naming, tree.make(forged))
    assert named(naming, tree.make(in_pod(SHOP, ATTACKER_ID))) == (ATTACKER_ID, SHOP)
    assert named(naming, tree.make(f"{forged}/init.scope"))[1] == ""


def test_without_kubernetes_a_pod_of_a_user_is_another(tree: CgroupTree) -> None:
    """Pods are found by path as ever, and that of a user has the user's slice before its uid."""
    naming = HostNaming(tree.hierarchy, NamingOptions(host_root="/nonexistent"))
    real, forged = (tree.make(in_pod(BANK, WEB_ID, root)) for root in ("", USER))
    assert [named(naming, cgroup) for cgroup in (real, forged)] == [
        (WEB_ID, BANK),
        (f"user-1000.slice/{WEB_ID}", f"user-1000.slice/{BANK}"),
    ]
    naming.close()


def test_paths_are_alike_where_a_subtree_is_mounted(tree: CgroupTree) -> None:
    """In a node that is a container, cgroups of before and after the start have one root."""
    node, hierarchy = tree.make("/docker/node"), tree.hierarchy
    within = type(hierarchy)(
        hierarchy.name,
        hierarchy.v1_root and str(node.directory),
        None if hierarchy.v1_root else str(node.directory),
    )
    paths = CgroupPaths(within)
    made = [tree.make(f"/docker/node/kubepods/pod{uid}") for uid in (BANK, SHOP)]
    paths.learn([CgroupEvent(cgroup.id, cgroup.path, removed=False) for cgroup in made])
    brief_id = 9 | (node.id & CGROUP_V1_BIT)
    paths.learn([CgroupEvent(brief_id, f"{node.path}/brief", removed=True)])
    outside = tree.make("/docker/other")
    paths.learn([CgroupEvent(outside.id, outside.path, removed=False)])
    ids = [cgroup.id for cgroup in made]
    expected = [f"/kubepods/pod{uid}" for uid in (BANK, SHOP)]
    assert [paths.lookup(cgroup_id) for cgroup_id in (*ids, brief_id)] == [*expected, "/brief"]
    assert paths.lookup(outside.id) == outside.path
    paths.close()
