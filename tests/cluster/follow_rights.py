"""Rights and credentials that come, go and expire, at a real API server and kubelet."""

from pathlib import Path

import pytest
from cluster import ACCOUNT, Cluster
from following import COMPONENTS, MODES, failures, following, lists_containers, source_up, warnings
from pods import is_running, on, pod

pytest_plugins = ("cluster_fixtures",)

RIGHT = {
    "apiserver": ("verbs list and watch on pods", 'cannot list resource "pods"'),
    "kubelet": ("verb get on nodes/pods", "resource=nodes, subresource(s)=[pods proxy]"),
}
"""What is needed, in our words, and what the server says."""

UNSUPPORTED = "eyJhbGciOiJub25lIn0.e30."
"""A token that nobody signed."""


@pytest.fixture(autouse=True)
def cluster_with_pod(cluster: Cluster) -> None:
    """Have rights again after a test that took them."""
    cluster.apply_deployment()


@pytest.mark.parametrize("mode", MODES)
def test_missing_right_is_named(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    """The message has the verb and the resource, once; granted later, it works by itself."""
    cluster.apply_deployment(*COMPONENTS[mode])
    cluster.delete("ClusterRoleBinding", ACCOUNT)
    with on(cluster, pod("seen")), following(tmp_path, cluster, mode) as run:
        run.until(lambda page: failures(page).get("forbidden", 0) > 1)
        (said,) = warnings(run)
        for part in RIGHT[mode]:
            assert part in said
        cluster.apply_deployment(*COMPONENTS[mode])
        run.until(lists_containers(cluster.pod("seen", is_running)))
        assert set(failures(run.scrape())) == {"forbidden"}


def test_right_to_list_alone_is_not_enough(cluster: Cluster, tmp_path: Path) -> None:
    """The refused verb is the one that is told; what the list said is known all the same."""
    only_list = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    cluster.put({**role, "metadata": {"name": ACCOUNT}, "rules": only_list})
    with on(cluster, pod("seen")):
        found = cluster.pod("seen", is_running)
        with following(tmp_path, cluster, "apiserver") as run:
            run.until(lists_containers(found))
            run.until(lambda page: failures(page).get("forbidden", 0) > 1)
            assert 'cannot watch resource "pods"' in warnings(run)[0]


@pytest.mark.parametrize("mode", MODES)
def test_token_that_is_not_accepted_is_read_again(
    cluster: Cluster, tmp_path: Path, mode: str
) -> None:
    """A good one in its file's place is all it takes."""
    cluster.apply_deployment(*COMPONENTS[mode])
    with following(tmp_path, cluster, mode, token=UNSUPPORTED) as run:
        run.until(lambda page: failures(page).get("unauthorized", 0) > 1)
        assert len(warnings(run)) == 1
        (tmp_path / "token").write_text(cluster.token())
        run.until(source_up)


@pytest.mark.parametrize("mode", MODES)
def test_account_that_is_made_anew(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    """Its old tokens are void from then on; a new one is taken where the old one failed."""
    cluster.apply_deployment(*COMPONENTS[mode])
    with following(tmp_path, cluster, mode) as run:
        run.until(source_up)
        cluster.delete("ServiceAccount", ACCOUNT, ACCOUNT)
        cluster.apply_deployment(*COMPONENTS[mode])
        if mode == "apiserver":
            # A watch that is open goes on: only the next request is refused.
            cluster.restart_apiserver()
        run.until(lambda page: failures(page).get("unauthorized", 0) > 0)
        (tmp_path / "token").write_text(cluster.token())
        run.until(source_up)


@pytest.mark.parametrize("mode", MODES)
def test_certificate_of_another_authority_is_refused(
    cluster: Cluster, tmp_path: Path, mode: str
) -> None:
    """The token is not sent to a server that the CA does not know."""
    with following(tmp_path, cluster, mode, ca=cluster.foreign_ca()) as run:
        run.until(lambda page: failures(page).get("certificate", 0) > 1)
        (said,) = warnings(run)
        assert "does not verify" in said
        assert set(failures(run.scrape())) == {"certificate"}
