"""Odd and hostile things that containers and pods do, in a live `run`: nothing is lost by them."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_tree import CgroupTree, cgroup_tree, hierarchies
from kube_runs import (
    JOULES,
    SECONDS,
    cgroupfs,
    cluster,
    container_names,
    first_cgroup,
    named,
    pod_names,
    uid_of,
    with_first_id,
)
from kube_server import container_id, make_pod
from running import OPENMETRICS, running, stepping
from truth import Stopwatch, may_be_hidden
from workers import worker

POD = os.getpid()
ID = container_id(POD)
UID = uid_of(make_pod(POD))
WEIRD = 'we"ird \\ {n}=\n\u00e4\u2028'
FAKE = ("--meter", "fake")


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    """Give a test its cgroups, where this host's are counted."""
    with cgroup_tree(hierarchies()[0]) as made:
        yield made


def test_any_text_of_the_api_makes_a_valid_page(tmp_path: Path, tree: CgroupTree) -> None:
    """Thousands of labels, quotes, line breaks: the chosen labels come back as they were."""
    labels = {f"label-{number}": "x" * 60 for number in range(5_000)} | {"a.io/b": WEIRD}
    pod = named(POD, labels=labels, name=WEIRD, namespace=WEIRD)
    pod["status"]["containerStatuses"][0]["name"] = WEIRD
    with (
        cluster(tmp_path, "apiserver") as kube,
        worker(tmp_path, "web") as web,
        stepping(tmp_path, *kube.arguments, config=kube.config) as run,
    ):
        kube.server.put(pod)
        first_cgroup(tree, POD).enter(web.pid)
        web.spin()
        run.until(lambda page: pod_names(page, UID) == {WEIRD})
        pages = [run.scrape(), run.scrape(OPENMETRICS)]
    for page in pages:
        assert pod_names(page, UID) == {WEIRD}
        assert container_names(page, container_id=ID) == {WEIRD}
        [info] = page.find("kepler_ebpf_pod_info", pod_id=UID)
        assert {key for key in info.labels if key.startswith("label_")} == {"label_a_io_b"}
        assert info.labels["label_a_io_b"] == WEIRD


SHAPES = (
    "/kubepods/burstable/podnot-a-uid/" + "ab" * 32 + "/x",
    "/docker-short.scope",
    "/kubepods.slice/kubepods-burstable.slice/cri-containerd-.scope",
    "/.scope",
    '/spaces and "quotes" \\x2d\\xff {} é\u2028',
    "/" + "very-long-" * 25,
    "/docker/" + "AB" * 32,
)


def test_cgroups_of_no_known_shape(tmp_path: Path, tree: CgroupTree, stopwatch: Stopwatch) -> None:
    """A path that looks like a container's and is none is no container; its processes are there."""
    with stepping(tmp_path, *FAKE, "--units") as run:
        used_s = {}
        for number, shape in enumerate(SHAPES):
            with worker(tmp_path, f"odd-{number}") as odd:
                tree.make(shape).enter(odd.pid)
                used_s[str(odd.pid)] = odd.spin()
        page = run.step()
    for pid, truth_s in used_s.items():
        counted_s = page.total(f"kepler_process_{SECONDS}", pid=pid)
        assert stopwatch.agree(counted_s, truth_s, within=0.2)
        [process] = page.find(f"kepler_process_{SECONDS}", pid=pid)
        assert process.labels["container_id"] in {"", "ab" * 32}
    assert "Traceback" not in run.log


def test_container_claimed_by_two_pods_is_in_the_newer(tmp_path: Path, tree: CgroupTree) -> None:
    """It is told once, and no joule is in both."""
    older = named(POD, creationTimestamp="2026-11-24T09:00:00Z")
    newer = named(POD + 1, creationTimestamp="2026-11-24T10:00:00Z", name="newer")
    other = uid_of(newer)
    with cluster(tmp_path, "apiserver") as kube, worker(tmp_path, "web") as web:
        kube.server.put(older)
        kube.server.put(with_first_id(newer, ID))
        with stepping(tmp_path, *kube.arguments, config=kube.config) as run:
            run.until(lambda page: page.find("kepler_ebpf_pod_info", pod_id=other))
            tree.make(f"/docker/{ID}").enter(web.pid)
            web.spin()
            page = run.step()
            web.spin()
            page = run.step()
    assert container_names(page, container_id=ID, pod_id=other) == {"web"}
    assert not page.find(f"kepler_pod_{JOULES}", pod_id=UID)
    of_container = page.total(f"kepler_container_{JOULES}", container_id=ID)
    assert page.total(f"kepler_pod_{JOULES}", pod_id=other) == pytest.approx(of_container, rel=1e-9)
    assert run.log.count("is claimed by two pods") == 1


def test_container_that_moves_to_another_cgroup_is_one(tmp_path: Path, tree: CgroupTree) -> None:
    """Its QoS class changed, so the path did: it goes on counting and never ends."""
    with worker(tmp_path, "web") as web, stepping(tmp_path, *FAKE) as run:
        here = tree.make(cgroupfs(UID, ID))
        here.enter(web.pid)
        web.spin()
        before_j = run.step().total(f"kepler_container_{JOULES}", container_id=ID)
        there = tree.make(f"/kubepods/besteffort/pod{UID}/{ID}")
        there.enter(web.pid)
        here.remove()
        web.spin()
        page = run.step()
    after = page.find(f"kepler_container_{JOULES}", container_id=ID)
    assert {each.labels["state"] for each in after} == {"running"}
    assert sum(each.value for each in after) > before_j > 0
    assert page.total(f"kepler_pod_{JOULES}", pod_id=UID) == pytest.approx(
        sum(each.value for each in after), rel=1e-9
    )


def test_reused_id_goes_on_where_it_was(tmp_path: Path, tree: CgroupTree) -> None:
    """A container made anew under the id of one that ended: its total does not fall."""
    seen_j = []
    with stepping(tmp_path, *FAKE) as run:
        for _ in range(3):
            cgroup = tree.make(f"/docker/{ID}")
            with worker(tmp_path, "web") as web:
                cgroup.enter(web.pid)
                web.spin()
                web.end()
            cgroup.remove()
            seen_j.append(run.step().total(f"kepler_container_{JOULES}", container_id=ID))
        page = run.scrape()
    assert 0 < seen_j[0] < seen_j[1] < seen_j[2]
    assert {
        each.labels["state"] for each in page.find(f"kepler_container_{JOULES}", container_id=ID)
    } == {"terminated"}


def test_cgroups_that_go_while_they_are_looked_at(tmp_path: Path, tree: CgroupTree) -> None:
    """With 100 intervals a second, some are removed between any two steps of one.

    None is missing but for CPU time that is counted as hidden: of a slice before a switch to a task
    that the kernel does not trace, all may be.
    """
    stop = threading.Event()
    used_s: dict[str, float] = {}

    def churn() -> None:
        while not stop.is_set():
            name = container_id(len(used_s), 7)
            cgroup = tree.make(f"/docker/{name}")
            with worker(tmp_path, "brief") as brief:
                cgroup.enter(brief.pid)
                used_s[name] = brief.spin(500)
            cgroup.remove()

    config = "monitor: {maxTerminated: -1}\n"
    with running(tmp_path, *FAKE, "--interval", "10ms", config=config) as run:
        thread = threading.Thread(target=churn)
        thread.start()
        try:
            run.until(lambda page: page.intervals > 300)
        finally:
            stop.set()
            thread.join()
        last = run.scrape().intervals
        page = run.until(lambda page: page.intervals > last + 10)
    listed = {each.labels["container_id"] for each in page.find(f"kepler_container_{JOULES}")}
    missing_s = {name: each for name, each in used_s.items() if name not in listed}
    hidden_s = page.total("kepler_ebpf_hidden_cpu_seconds_total")
    assert may_be_hidden(missing_s.values(), hidden_s), missing_s
    assert page.total("kepler_ebpf_failed_intervals_total") == 0
    assert "Traceback" not in run.log
