"""Nobody takes another's energy by a name: real cgroups, a live `run` and a server of pods."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from kube_runs import (
    JOULES,
    MODES,
    cgroupfs,
    cluster,
    heard_again,
    named,
    off,
    pod_names,
    source_up,
    uid_of,
    with_first_id,
)
from kube_server import NODE, Json, container_id, make_pod, status
from running import Run, running, stepping
from workers import Worker, worker

VICTIM, DECOY = 2 * os.getpid(), 2 * os.getpid() + 1
"""Numbers of pods, of this process alone: other tests on this host may have pods too."""

UID, ID, INNER_ID = uid_of(make_pod(VICTIM)), container_id(VICTIM), container_id(DECOY, 9)
NAME = make_pod(VICTIM)["metadata"]["name"]
SLICE = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope"
USER, SERVICE = "/user.slice/user-1000.slice/user@1000.service", "/system.slice/runner.service"

BY_NODE = {"ownerReferences": [{"kind": "Node", "name": NODE, "controller": True}]}
FORGED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("source", {}),
    ("mirror", {}),
    ("mirror", BY_NODE),
)
"""What whoever may create pods can write into one: its annotation, and other metadata."""


def decoys() -> list[Json]:
    """Return pods of an attacker's that claim the victim's cgroups, and run nothing."""
    made = []
    for number, (key, metadata) in enumerate(FORGED, start=DECOY):
        value = "file" if key == "source" else UID
        annotations = {"kubernetes.io/config.hash": UID, f"kubernetes.io/config.{key}": value}
        pod = named(number, annotations=annotations, namespace="attacker", **metadata)
        pod["metadata"]["creationTimestamp"] = "2027-01-01T00:00:00Z"
        pod["status"] = {"phase": "Pending", "qosClass": "Burstable"}
        made.append(pod)
    return made


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def assert_it_is_the_victims(run: Run, web: Worker) -> None:
    """Hold that what the victim uses from now on is the victim's, with all decoys there."""
    run.until(lambda page: len(page.find("kepler_ebpf_pod_info")) == 1 + len(FORGED))
    before_j = run.step().total(f"kepler_pod_{JOULES}", pod_name=NAME)
    web.spin()
    page = run.step()
    assert page.total(f"kepler_pod_{JOULES}", pod_name=NAME) > before_j
    assert pod_names(page, UID) == {NAME}
    assert not page.find(f"kepler_pod_{JOULES}", pod_namespace="attacker")
    known = page.find("kepler_ebpf_pod_info", cgroup_pod_id=UID)
    assert [info.labels["pod_name"] for info in known] == [NAME]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("decoys_first", [False, True])
def test_an_annotation_takes_no_pods_energy(
    tmp_path: Path, tree: CgroupTree, mode: str, *, decoys_first: bool
) -> None:
    """The victim keeps name and joules whichever comes first, and after a restart."""
    with cluster(tmp_path, mode) as kube, worker(tmp_path, "web") as web:
        with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
            for pod in decoys() if decoys_first else [make_pod(VICTIM)]:
                kube.server.put(pod)
            heard_again(run, kube)
            tree.make(cgroupfs(UID, ID)).enter(web.pid)
            web.spin()
            run.step()
            for pod in [make_pod(VICTIM)] if decoys_first else decoys():
                kube.server.put(pod)
            assert_it_is_the_victims(run, web)
        with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
            web.spin()
            run.until(lambda page: pod_names(page, UID) == {NAME})
            assert_it_is_the_victims(run, web)


def test_the_name_of_a_cgroup_takes_no_pods_energy(tmp_path: Path, tree: CgroupTree) -> None:
    """A cgroup elsewhere with the pod's uid and its container's id is a container of its own."""
    paths = (f"{USER}/app.slice/{SLICE}", f"{USER}/docker-{ID}.scope", f"{SERVICE}/{SLICE}")
    with (
        cluster(tmp_path, "apiserver") as kube,
        worker(tmp_path, "web") as web,
        worker(tmp_path, "thief") as thief,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        kube.server.put(make_pod(VICTIM))
        tree.make(cgroupfs(UID, ID)).enter(web.pid)
        web.spin()
        run.until(lambda page: pod_names(page, UID) == {NAME})
        before = run.step()
        for path in paths:
            tree.make(path).enter(thief.pid)
            thief.spin()
            after = run.step()
    for level in ("pod", "container"):
        name = f"kepler_{level}_{JOULES}"
        assert after.total(name, pod_id=UID) == before.total(name, pod_id=UID) > 0
    own = {
        each.labels["container_id"]: each.labels["pod_id"]
        for each in after.find(f"kepler_container_{JOULES}")
        if each.labels["container_id"].endswith(f"/{ID}") and each.value > 0
    }
    assert [container_id.startswith("user-1000.slice/") for container_id in own].count(True) == 1
    assert list(own.values()) == ["", ""]


def test_a_pod_inside_a_pod_is_the_outer_ones(tmp_path: Path, tree: CgroupTree) -> None:
    """What a pod makes in its own cgroup is its own, whatever pod and container it is called."""
    thief_pod = with_first_id(make_pod(DECOY), INNER_ID)
    inside = cgroupfs(uid_of(thief_pod), INNER_ID)
    with (
        cluster(tmp_path, "apiserver") as kube,
        worker(tmp_path, "web") as web,
        worker(tmp_path, "thief") as thief,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        kube.server.put(make_pod(VICTIM))
        kube.server.put(thief_pod)
        tree.make(cgroupfs(UID, ID)).enter(web.pid)
        web.spin()
        run.until(lambda page: pod_names(page, UID) == {NAME})
        before_j = run.step().total(f"kepler_pod_{JOULES}", pod_id=UID)
        tree.make(f"{inside}/{SLICE}").enter(thief.pid)
        thief.spin()
        after = run.step()
        page = run.until(lambda page: pod_names(page, uid_of(thief_pod)) - {""})
    assert after.total(f"kepler_pod_{JOULES}", pod_id=UID) == before_j
    assert page.total(f"kepler_pod_{JOULES}", pod_id=uid_of(thief_pod)) > 0
    assert off(page, uid_of(thief_pod)) <= 1e-9


def test_a_user_takes_no_containers_energy_without_kubernetes(
    tmp_path: Path, tree: CgroupTree
) -> None:
    """The same id in a user's slice is another container, and another pod."""
    with (
        worker(tmp_path, "web") as web,
        worker(tmp_path, "thief") as thief,
        stepping(tmp_path, "--meter", "fake") as run,
    ):
        tree.make(cgroupfs(UID, ID)).enter(web.pid)
        web.spin()
        before = run.step()
        tree.make(f"{USER}/app.slice/{SLICE}").enter(thief.pid)
        thief.spin()
        after = run.step()
    for level, labels in (("pod", {"pod_id": UID}), ("container", {"container_id": ID})):
        name = f"kepler_{level}_{JOULES}"
        assert after.total(name, **labels) == before.total(name, **labels) > 0
    assert after.total(f"kepler_pod_{JOULES}", pod_id=f"user-1000.slice/{UID}") > 0


def test_what_a_server_says_reaches_no_terminal(tmp_path: Path) -> None:
    """Its control characters are escaped; and its return is logged, soon after the start too."""
    refused = "kepler_ebpf_pod_source_errors_total"
    with (
        cluster(tmp_path, "apiserver") as kube,
        running(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        run.until(source_up)
        kube.server.answer_next("watch", status(403, "\x1b[31mred\x07"))
        kube.server.end_watches()
        run.until(lambda page: page.find(refused, reason="forbidden") and source_up(page))
    assert "\\x1b[31mred\\x07" in run.log
    assert all(each.isprintable() for each in run.log.replace("\n", ""))
    assert "connected again, after" in run.log
