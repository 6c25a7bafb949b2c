"""Pods in a live `run`: real cgroups and processes, and a real server for either way to ask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from kube_runs import (
    DRIVERS,
    JOULES,
    MODES,
    SECONDS,
    Cluster,
    cgroupfs,
    cluster,
    container_names,
    first_cgroup,
    heard_again,
    off,
    pod_names,
    silent,
    source_up,
    synced_s,
    uid_of,
)
from kube_server import container_id, make_pod, recorded, status
from running import Page, running, stepping
from workers import worker

PAUSE_ID = "fedcba9876543210" * 4
POD = os.getpid()
"""The number of this file's pod: other tests on this host may have pods too."""

NAME = make_pod(POD)["metadata"]["name"]
UID = uid_of(make_pod(POD))


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


@pytest.fixture(params=MODES)
def kube(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Give a server in either mode."""
    with cluster(tmp_path, request.param) as made:
        yield made


@pytest.mark.parametrize("driver", DRIVERS)
def test_pods_are_named_and_add_up(
    tmp_path: Path, tree: CgroupTree, kube: Cluster, driver: str
) -> None:
    """A pod is the sum of its containers, the unnamed pause too, in every snapshot."""
    ids = [container_id(POD, 0), container_id(POD, 1), PAUSE_ID]
    kube.server.put(make_pod(POD))
    cgroups = [tree.make(DRIVERS[driver](UID, id_)) for id_ in ids]
    names = ("web", "sidecar", "pause")
    with (
        worker(tmp_path, names[0]) as web,
        worker(tmp_path, names[1]) as sidecar,
        worker(tmp_path, names[2]) as pause,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        workers = (web, sidecar, pause)
        for cgroup, each in zip(cgroups, workers, strict=True):
            cgroup.enter(each.pid)
        for _ in range(3):
            for each in workers:
                each.spin()
            assert off(run.step(), UID) <= 1e-9
        page = run.until(lambda page: pod_names(page, UID) == {NAME})
        assert off(page, UID) <= 1e-9
    assert container_names(page, pod_id=UID) == {"web", "sidecar", PAUSE_ID[:12]}
    assert page.find(f"kepler_container_{SECONDS}", container_id=ids[1], container_name="sidecar")
    assert page.find(f"kepler_pod_{JOULES}", pod_id=UID)
    assert page.find("kepler_pod_cpu_watts", pod_namespace="shop", state="running")
    assert source_up(page)
    assert_described(page)


def assert_described(page: Page) -> None:
    """Hold the pod's description against the object that the server has."""
    [info] = page.find("kepler_ebpf_pod_info")
    assert info.value == 1.0
    shown = {key: value for key, value in info.labels.items() if key != "node_name"}
    assert shown == {
        "pod_id": UID,
        "pod_name": NAME,
        "pod_namespace": "shop",
        "cgroup_pod_id": UID,
        "node": "node-a",
        "owner_kind": "Deployment",
        "owner_name": "web",
        "qos_class": "Burstable",
        "label_app": "web",
        "label_team": "shop",
    }


def test_short_container_is_named_after_its_end(
    tmp_path: Path, tree: CgroupTree, kube: Cluster
) -> None:
    """One that lived for a moment is there by its id, and named once the API tells of it."""
    with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
        cgroup = first_cgroup(tree, POD)
        with worker(tmp_path, "brief") as brief:
            cgroup.enter(brief.pid)
            brief.spin()
            brief.end()
        cgroup.remove()
        page = run.step()
        labels = {"container_id": container_id(POD), "pod_id": UID, "state": "terminated"}
        before_j = page.total(f"kepler_container_{JOULES}", **labels)
        assert container_names(page, **labels) == {container_id(POD)[:12]}
        for _ in range(4):
            run.step()
        kube.server.put(make_pod(POD))
        page = run.until(lambda page: container_names(page, **labels) == {"web"})
        page = run.until(lambda page: pod_names(page, UID) == {NAME})
    assert before_j > 0
    assert page.total(f"kepler_container_{JOULES}", **labels) == pytest.approx(before_j, rel=1e-9)
    assert page.total(f"kepler_pod_{JOULES}", pod_id=UID, state="terminated") == pytest.approx(
        before_j, rel=1e-9
    )


def test_deleted_pod_keeps_its_name(tmp_path: Path, tree: CgroupTree, kube: Cluster) -> None:
    """As long as its energy is listed it is listed by name, and described."""
    kube.server.put(make_pod(POD))
    cgroup = first_cgroup(tree, POD)
    with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
        with worker(tmp_path, "web") as web:
            cgroup.enter(web.pid)
            web.spin()
            run.until(lambda page: pod_names(page, UID) == {NAME})
        cgroup.remove()
        kube.server.remove(UID)
        heard_again(run, kube)
        page = run.step()
    assert page.find(f"kepler_pod_{JOULES}", pod_name=NAME, state="terminated")
    assert container_names(page, container_id=container_id(POD)) == {"web"}
    assert page.find("kepler_ebpf_pod_info", pod_name=NAME)


def test_api_that_comes_later(tmp_path: Path, tree: CgroupTree, kube: Cluster) -> None:
    """Down at the start, pods are known by the uid in their path; they are named when it is up."""
    kube.server.stop()
    kube.server.put(make_pod(POD))
    with (
        worker(tmp_path, "web") as web,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        first_cgroup(tree, POD).enter(web.pid)
        web.spin()
        page = run.until(lambda page: page.total("kepler_ebpf_pod_source_errors_total"))
        assert not source_up(page)
        assert page.find("kepler_ebpf_pod_source_errors_total", reason="network")
        assert page.find(f"kepler_pod_{JOULES}", pod_id=UID, pod_name="")
        kube.server.start()
        page = run.until(lambda page: pod_names(page, UID) == {NAME})
        assert off(page, UID) <= 1e-9
    assert source_up(page)
    assert "Pods known so far are kept; trying again" in run.log


def test_no_interval_waits_for_the_api(tmp_path: Path, tree: CgroupTree, kube: Cluster) -> None:
    """With a server that takes requests and never answers, every tick is on its grid."""
    kube.server.put(make_pod(POD))
    with (
        worker(tmp_path, "web") as web,
        running(tmp_path, *kube.arguments, "--interval", "1s", config=kube.config) as run,
    ):
        first_cgroup(tree, POD).enter(web.pid)
        web.spin()
        before = run.until(lambda page: pod_names(page, UID) == {NAME})
        with silent(kube.server):
            tree.make(cgroupfs(UID, PAUSE_ID)).enter(web.pid)
            web.spin()
            begun = run.scrape().intervals
            page = run.until(lambda page: page.intervals >= begun + 3)
        missed = "kepler_ebpf_missed_ticks_total"
        assert page.total(missed) == before.total(missed)
        assert pod_names(page, UID) == {NAME}
        synced = synced_s(page)
        run.until(lambda page: source_up(page) and synced_s(page) > synced)


def test_denied_right_is_named(tmp_path: Path, kube: Cluster) -> None:
    """The log says which verb on which resource is needed, and what was refused."""
    kube.server.answer_next(kube.kind, *[status(403, "pods is forbidden")] * 20)
    with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
        page = run.until(
            lambda page: page.find("kepler_ebpf_pod_source_errors_total", reason="forbidden")
        )
    assert not source_up(page)
    right = {"apiserver": "verbs list and watch on pods", "kubelet": "verb get on nodes/pods"}
    assert f"grant a ClusterRole with the {right[kube.mode]}" in run.log
    assert "The server's message: pods is forbidden" in run.log


def test_static_pod_is_one_pod(tmp_path: Path, tree: CgroupTree, kube: Cluster) -> None:
    """Its cgroups have the hash of its file; once the API is heard it has the API's uid alone."""
    pod = recorded("static_mirror" if kube.mode == "apiserver" else "static_kubelet")
    uid, hash_ = uid_of(pod), pod["metadata"]["annotations"]["kubernetes.io/config.hash"]
    id_ = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    kube.server.stop()
    kube.server.put(pod)
    with (
        worker(tmp_path, "etcd") as etcd,
        worker(tmp_path, "pause") as pause,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        tree.make(cgroupfs(hash_, id_)).enter(etcd.pid)
        tree.make(cgroupfs(hash_, PAUSE_ID)).enter(pause.pid)
        etcd.spin()
        pause.spin()
        page = run.step()
        assert pod_names(page, hash_) == {""}
        before_j = page.total(f"kepler_pod_{JOULES}", pod_id=hash_)
        kube.server.start()
        page = run.until(lambda page: pod_names(page, uid) == {pod["metadata"]["name"]})
        etcd.spin()
        page = run.step()
    assert page.total(f"kepler_pod_{JOULES}", pod_id=uid) > before_j
    assert off(page, uid) <= 1e-9
    assert {each.labels.get("pod_id") for each in page.samples} & {uid, hash_} == {uid}
    assert page.find("kepler_ebpf_pod_info", pod_id=uid, cgroup_pod_id=hash_)


def test_static_pod_whose_mirror_is_made_anew(tmp_path: Path, tree: CgroupTree) -> None:
    """It was deleted at the API and runs on: it is one pod, under its new uid, with all it used."""
    pod = recorded("static_mirror")
    again = recorded("static_mirror")
    again["metadata"]["uid"] = UID
    name, uid = pod["metadata"]["name"], uid_of(pod)
    hash_ = pod["metadata"]["annotations"]["kubernetes.io/config.hash"]
    with (
        cluster(tmp_path, "apiserver") as kube,
        worker(tmp_path, "etcd") as etcd,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        kube.server.put(pod)
        run.until(lambda page: page.find("kepler_ebpf_pod_info", pod_id=uid))
        tree.make(cgroupfs(hash_, PAUSE_ID)).enter(etcd.pid)
        etcd.spin()
        page = run.until(lambda page: pod_names(page, uid) == {name})
        before_j = page.total(f"kepler_pod_{JOULES}", pod_id=uid)
        kube.server.remove(uid)
        kube.server.put(again)
        page = run.until(lambda page: pod_names(page, UID) == {name})
        assert page.total(f"kepler_pod_{JOULES}", pod_id=UID) >= before_j > 0
        etcd.spin()
        page = run.step()
    assert off(page, UID) <= 1e-9
    assert {each.labels.get("pod_id") for each in page.samples} & {uid, UID, hash_} == {UID}
    assert page.find("kepler_ebpf_pod_info", pod_id=UID, cgroup_pod_id=hash_)
