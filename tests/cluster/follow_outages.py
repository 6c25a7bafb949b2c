"""A real API server that crashes, forgets and comes back while pods come and go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from cluster import Cluster
from control_plane import NODE
from following import JOULES, failures, following, lists_containers, off, source_up, warnings
from pods import is_running, on, pod
from running import Page, Run, assert_conserved

pytest_plugins = ("cluster_fixtures",)

OUTAGE_S = 12.0


@contextmanager
def api_server_down(cluster: Cluster, *flags: str) -> Iterator[None]:
    """Kill the API server, and start it again with *flags*."""
    cluster.brain.apiserver.kill()
    yield
    cluster.brain.apiserver = cluster.brain.make_apiserver(*flags)
    cluster.brain.start_apiserver()


def test_pods_come_and_go_while_the_api_server_is_down(cluster: Cluster, tmp_path: Path) -> None:
    """One warning, no joule lost or counted twice, and the names once the server is back."""
    cluster.apply_deployment()
    leaving, coming = (cluster.node.static_pods / f"{name}.yaml" for name in ("left", "came"))
    leaving.write_text(yaml.safe_dump(pod("left")))
    with on(cluster, pod("stays")), following(tmp_path, cluster, "apiserver") as run:
        stays, left = (cluster.pod(name, is_running) for name in ("stays", f"left-{NODE}"))
        for each in (stays, left):
            before = run.until(lists_containers(each))
        with api_server_down(cluster):
            leaving.unlink()
            coming.write_text(yaml.safe_dump(pod("came")))
            time.sleep(OUTAGE_S)
            during = run.scrape()
            assert not source_up(during)
            assert joules(during, stays) > joules(before, stays)
            assert lists_containers(stays)(during)
        came = cluster.pod(f"came-{NODE}", is_running)
        page = run.until(lists_containers(came))
        coming.unlink()
        for each in (stays, left, came):
            assert off(page, each["metadata"]["uid"]) < 1e-9
            listed = page.find(f"kepler_pod_{JOULES}", pod_name=each["metadata"]["name"])
            assert len(listed) == len(page.zones())
        assert_conserved(page)
        assert_calm(run)


def joules(page: Page, found: dict[str, object]) -> float:
    """Return the joules of a pod in all zones."""
    metadata = found["metadata"]
    assert isinstance(metadata, dict)
    return page.total(f"kepler_pod_{JOULES}", pod_id=metadata["uid"])


def assert_calm(run: Run) -> None:
    """See that one outage was one warning."""
    (said,) = warnings(run)
    assert "Connection broken" in said or "refused" in said


def test_history_that_etcd_has_compacted(cluster: Cluster, tmp_path: Path) -> None:
    """Where the server has no cache the 410 is etcd's; all pods are listed again, calmly."""
    cluster.apply_deployment()
    with on(cluster, pod("before")), following(tmp_path, cluster, "apiserver") as run:
        run.until(lists_containers(cluster.pod("before", is_running)))
        for number in range(3):
            note = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"number": str(number)}}
            cluster.put({**note, "metadata": {"name": "note"}})
        with api_server_down(cluster, "--watch-cache=false"):
            cluster.brain.etcd.compact()
        with on(cluster, pod("after")):
            page = run.until(lists_containers(cluster.pod("after", is_running)))
        assert failures(page)["gone"] == 1
        assert "too old" in run.log
        assert_calm(run)
    with api_server_down(cluster):
        pass


def test_kubelet_that_starts_again(cluster: Cluster, tmp_path: Path) -> None:
    """Its pods run on without it and keep their names, and new ones are named after it."""
    cluster.apply_deployment("kubelet")
    with on(cluster, pod("stays")), following(tmp_path, cluster, "kubelet") as run:
        stays = cluster.pod("stays", is_running)
        before = run.until(lists_containers(stays))
        cluster.node.kubelet.kill()
        run.until(lambda page: failures(page).get("network", 0) > 0)
        cluster.node.start_kubelet()
        during = run.scrape()
        assert joules(during, stays) > joules(before, stays)
        with on(cluster, pod("later")):
            page = run.until(lists_containers(cluster.pod("later", is_running)))
        assert lists_containers(stays)(page)
        assert off(page, stays["metadata"]["uid"]) < 1e-9
        assert_calm(run)
