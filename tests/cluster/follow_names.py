"""Pods, containers and owners under their names, asked for at a real API server and kubelet."""

from collections.abc import Iterator

import pytest
import yaml
from cluster import Cluster, Json
from control_plane import NODE
from following import (
    COMPONENTS,
    JOULES,
    MODES,
    following,
    lists_containers,
    off,
    source_up,
)
from pods import BRIEF, container, has_ended, ids, is_running, on, pod, spec, templated
from prometheus_client.samples import Sample
from running import Page, Run, assert_conserved

pytest_plugins = ("cluster_fixtures",)

ORDINARY, EPHEMERAL = "containerStatuses", "ephemeralContainerStatuses"


@pytest.fixture(scope="module", params=MODES)
def run(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Follow the cluster in each mode."""
    cluster.apply_deployment(*COMPONENTS[request.param])
    with following(tmp_path_factory.mktemp("run"), cluster, request.param) as started:
        started.until(source_up)
        yield started
        page = started.scrape()
        assert source_up(page)
        assert_conserved(page)
        assert started.log.count(" warn ") <= 1, started.log


def test_every_kind_of_container_is_named(cluster: Cluster, run: Run) -> None:
    """Init containers, sidecars and ephemeral ones are; the pod is the sum of all, pause too."""
    before = [container("setup", BRIEF), container("keep", restartPolicy="Always")]
    made = pod("many", container("web"), container("side"), initContainers=before)
    with on(cluster, made):
        cluster.pod("many", is_running)
        cluster.debug("many", container("debug"))
        found = cluster.pod("many", lambda each: any(ids(each, EPHEMERAL).values()))
        page = run.until(lists_containers(found, ORDINARY, "initContainerStatuses", EPHEMERAL))
    uid = found["metadata"]["uid"]
    listed = page.find(f"kepler_container_{JOULES}", pod_id=uid, zone="package")
    assert len(listed) == len({"setup", "keep", "web", "side", "debug", "the sandbox"})
    assert off(page, uid) < 1e-9


def test_pod_that_lived_for_a_moment_is_named(cluster: Cluster, run: Run) -> None:
    """The container of a Job that ends at once has its name, its pod and its Job."""
    of_pods = spec(container("brief", BRIEF), restartPolicy="Never")
    with on(cluster, templated("Job", "batch/v1", "moment", of_pods)):
        found = cluster.pod(cluster.pod_of("moment"), has_ended)
        page = run.until(lists_containers(found))
    assert info(page, found)["owner_kind"] == "Job"
    assert info(page, found)["owner_name"] == "moment"


def info(page: Page, found: Json) -> dict[str, str]:
    """Return the labels that tell of a pod."""
    (sample,) = page.find("kepler_ebpf_pod_info", pod_id=found["metadata"]["uid"])
    return sample.labels


def test_container_that_crashes_is_named_each_time(cluster: Cluster, run: Run) -> None:
    """Every start of it is a container of its own, known by the same name."""
    with on(cluster, pod("crash", container("main", f"{BRIEF}; exit 1"))):
        found = cluster.pod("crash", has_crashed_twice)
        run.until(lists_containers(found))
        run.until(lambda page: len(starts(page, found)) >= 2)


def has_crashed_twice(found: Json) -> bool:
    """Tell whether the pod's container was started again, and ended again."""
    (status,) = found["status"].get("containerStatuses") or [{}]
    return status.get("restartCount", 0) >= 1 and "running" not in status["state"]


def starts(page: Page, found: Json) -> set[str]:
    """Return the ids that the container "main" of a pod has had."""
    uid = found["metadata"]["uid"]
    listed = page.find(f"kepler_container_{JOULES}", pod_id=uid, container_name="main")
    return {each.labels["container_id"] for each in listed}


def test_pod_of_a_deployment_has_its_labels(cluster: Cluster, run: Run) -> None:
    """The owner is the Deployment, not its ReplicaSet; the label that was asked for is there."""
    with on(cluster, templated("Deployment", "apps/v1", "shop", spec())):
        found = cluster.pod(cluster.pod_of("shop"), is_running)
        page = run.until(lists_containers(found))
    labels = info(page, found)
    assert labels["owner_kind"] == "Deployment"
    assert labels["owner_name"] == labels["label_app"] == "shop"
    assert labels["pod_name"].startswith("shop-")
    assert labels["pod_namespace"] == "default"
    assert labels["node"] == NODE
    assert labels["qos_class"] == "BestEffort"


def test_quality_of_service_changes_the_place_only(cluster: Cluster, run: Run) -> None:
    """Guaranteed and burstable pods are in other cgroups, and named all the same."""
    some = {"cpu": "50m", "memory": "32Mi"}
    sure = container("main", resources={"requests": some, "limits": some})
    burst = container("main", resources={"requests": some})
    with on(cluster, pod("sure", sure), pod("burst", burst)):
        for name, qos in (("sure", "Guaranteed"), ("burst", "Burstable")):
            found = cluster.pod(name, is_running)
            page = run.until(lists_containers(found))
            assert info(page, found)["qos_class"] == qos


def test_static_pod_is_named(cluster: Cluster, run: Run) -> None:
    """A pod from a file on the node is one pod, though its cgroup has another id than the API."""
    manifest = cluster.node.static_pods / "fixed.yaml"
    made = pod("fixed", container("main"))
    manifest.write_text(yaml.safe_dump(made))
    try:
        found = cluster.pod(f"fixed-{NODE}", is_running)
        page = run.until(lambda page: named(page, found) and lists(page, ids(found)["main"]))
    finally:
        manifest.unlink()
    (uid,) = {each.labels["pod_id"] for each in named(page, found)}
    assert off(page, uid) < 1e-9
    mirrored = found["metadata"]
    assert uid in {mirrored["uid"], mirrored["annotations"]["kubernetes.io/config.hash"]}


def named(page: Page, found: Json) -> list[Sample]:
    """Return the series of the pods of that name."""
    return page.find(f"kepler_pod_{JOULES}", pod_name=found["metadata"]["name"])


def lists(page: Page, id_: str) -> bool:
    """Tell whether a page lists that container under a name of its own."""
    found = page.find(f"kepler_container_{JOULES}", container_id=id_)
    return any(each.labels["container_name"] == "main" for each in found)


def test_pods_that_follow_one_another_under_one_name(cluster: Cluster, run: Run) -> None:
    """Each keeps its joules under its own id, as the pods of a StatefulSet must."""
    uids = []
    for _ in range(3):
        with on(cluster, pod("again")):
            found = cluster.pod("again", is_running)
            run.until(lists_containers(found))
            uids.append(found["metadata"]["uid"])
    page = run.until(lambda page: len(page.find(f"kepler_pod_{JOULES}", pod_name="again")) >= 3)
    assert len(set(uids)) == 3
    for uid in uids:
        assert page.total(f"kepler_pod_{JOULES}", pod_id=uid, pod_name="again") > 0
        assert off(page, uid) < 1e-9


def test_many_pods_at_once(cluster: Cluster, run: Run) -> None:
    """Twenty that come together are all named."""
    names = [f"crowd-{number}" for number in range(20)]
    with on(cluster, *(pod(name) for name in names)):
        found = [cluster.pod(name, is_running) for name in names]
        for each in found:
            run.until(lists_containers(each))
