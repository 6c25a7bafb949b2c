"""The API server mode: list and watch against a real server, and what an outage does."""

import logging
import re
from pathlib import Path

import pytest
from kube_certificates import make_certificate, write_kubeconfig
from kube_rig import Rig, knows, rig_of, running
from kube_server import (
    NODE,
    KubeServer,
    make_pod,
    raw,
    recorded,
    serving,
    wait_until,
)

from kepler_ebpf.names.kubernetes import apiserver
from kepler_ebpf.names.kubernetes.connection import Limits

pytest_plugins = ["kube_fixtures"]


class TestFollowing:
    """A healthy server."""

    def test_pods_listed_are_known(self, server: KubeServer, rig: Rig) -> None:
        """The pods there are at the start are known after the list, labels by allow-list."""
        server.put(recorded("deployment"))
        rig.follower.step()
        found = rig.source.find("a1" * 32)
        assert found is not None
        name, pod = found
        assert (name, pod.pod_name) == ("web", "web-6d4b75cb6d-hx8p2")
        assert pod.labels == (("app", "web"),)

    def test_only_this_node_is_asked_for(self, server: KubeServer, rig: Rig) -> None:
        """List and watch carry the field selector, so another node's pods are never sent."""
        server.put(make_pod(1))
        server.put(make_pod(2, node="node-b"))
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
        selectors = {request.query["fieldSelector"] for request in server.state.seen}
        assert selectors == {f"spec.nodeName={NODE}"}
        assert [pod.node for pod in rig.parts.index.pods()] == [NODE]

    def test_changes_arrive_by_watch(self, server: KubeServer, rig: Rig) -> None:
        """Pods added, modified and deleted after the list are followed without listing again."""
        server.put(make_pod(1))
        with running(rig) as source:
            wait_until(lambda: knows(rig, 1))
            server.put(make_pod(2))
            wait_until(lambda: knows(rig, 2))
            changed = make_pod(2)
            changed["status"]["containerStatuses"][0]["containerID"] = "containerd://restarted"
            server.put(changed)
            wait_until(lambda: source.index.find("restarted") is not None)
            server.remove(make_pod(1)["metadata"]["uid"])
            wait_until(lambda: source.index.live_pods == 1)
        assert len(server.seen("list")) == 1

    def test_change_is_visible_in_the_version(self, server: KubeServer, rig: Rig) -> None:
        """The sampler sees by the version that there is something to label anew."""
        with running(rig) as source:
            wait_until(lambda: source.status.up)
            version = source.index.version
            assert source.index.version == version
            server.put(make_pod(1))
            wait_until(lambda: source.index.version != version)

    def test_long_list_comes_in_pages(self, server: KubeServer, rig: Rig) -> None:
        """A list of more than a page is read to its end."""
        for number in range(600):
            server.put(make_pod(number))
        rig.follower.step()
        assert rig.parts.index.live_pods == 600
        assert len(server.seen("list")) == 3

    def test_server_that_ignores_pages(self, server: KubeServer, rig: Rig) -> None:
        """A server that sends all in one answer to the cached list is understood."""
        server.state.page_limit = False
        for number in range(300):
            server.put(make_pod(number))
        rig.follower.step()
        assert rig.parts.index.live_pods == 300

    def test_first_list_is_from_the_servers_cache(self, server: KubeServer, rig: Rig) -> None:
        """Many nodes that start at once do not all read from etcd."""
        rig.follower.step()
        assert server.seen("list")[0].query["resourceVersion"] == "0"

    def test_watch_goes_on_from_the_bookmark(self, server: KubeServer, rig: Rig) -> None:
        """After a bookmark a new watch starts there, so a compacted history does no harm."""
        server.put(make_pod(1))
        with running(rig) as source:
            wait_until(lambda: len(server.seen("watch")) == 1)
            heard = source.status.last_sync_s
            server.bookmark()
            bookmark = server.state.version
            wait_until(lambda: source.status.last_sync_s != heard)
            server.compact()
            server.end_watches()
            wait_until(lambda: len(server.seen("watch")) == 2)
        assert server.seen("watch")[0].query["allowWatchBookmarks"] == "true"
        assert server.seen("watch")[1].query["resourceVersion"] == str(bookmark)
        assert rig.errors == {}

    def test_watch_that_ends_is_begun_again(self, server: KubeServer, rig: Rig) -> None:
        """A watch the server ends in good order is no error, and nothing is missed between."""
        with running(rig):
            wait_until(lambda: len(server.seen("watch")) == 1)
            server.end_watches()
            server.put(make_pod(1))
            wait_until(lambda: knows(rig, 1))
        assert rig.errors == {}
        assert len(server.seen("list")) == 1

    def test_watch_that_always_ends_at_once_is_slowed_down(
        self, server: KubeServer, rig: Rig
    ) -> None:
        """A server that closes each watch unheard is asked more and more seldom."""
        server.answer_next("watch", *[raw(b"")] * 8)
        rig.follower.step()
        waits = [rig.follower.step().seconds for _ in range(8)]
        assert waits[0] <= 1.0
        assert min(waits[6:]) >= 15.0

    def test_tls_with_a_certificate_that_verifies(self, tmp_path: Path) -> None:
        """Over TLS, with the CA of the kubeconfig, list and watch work."""
        certificate = make_certificate(tmp_path / "tls")
        with serving(certificate) as server:
            rig = rig_of(write_kubeconfig(tmp_path / "config", server.url, certificate.ca))
            with running(rig):
                wait_until(lambda: bool(server.seen("watch")))
                server.put(make_pod(1))
                wait_until(lambda: knows(rig, 1))

    def test_close_ends_a_watch_that_waits(self, server: KubeServer, rig: Rig) -> None:
        """Closing does not wait for the server, and a source that does not run is not up."""
        with running(rig) as source:
            wait_until(lambda: bool(server.seen("watch")))
            wait_until(lambda: source.status.up)
            source.close()
            assert not source.status.up
            assert rig.parts.journal.status.up

    def test_unusual_names_arrive_unchanged(self, server: KubeServer, rig: Rig) -> None:
        """Unicode and quotes pass through list and watch."""
        names = ['say-"hi"\\', "пόд-日本-🐙"]
        for number, name in enumerate(names):
            value = make_pod(number)
            value["metadata"]["name"] = name
            server.put(value)
        rig.follower.step()
        assert sorted(pod.pod_name for pod in rig.parts.index.pods()) == sorted(names)

    def test_pod_with_thousands_of_labels(self, server: KubeServer, rig: Rig) -> None:
        """A pod of more than a read block is decoded, from the list and from the watch."""
        for number in (1, 2):
            value = make_pod(number)
            value["metadata"]["labels"] |= {f"k{key}": "v" * 60 for key in range(5000)}
            server.put(value)
            if number == 1:
                rig.follower.step()
        with running(rig):
            wait_until(lambda: knows(rig, 2))
        assert knows(rig, 1)


class TestOutage:
    """The API is away for long."""

    def test_named_again_after_an_outage(self, server: KubeServer, rig: Rig) -> None:
        """500 pods churned behind our back are known once the API is back; the rest never left."""
        for number in range(500):
            server.put(make_pod(number))
        with running(rig) as source:
            wait_until(lambda: source.index.live_pods == 500)
            server.stop()
            wait_until(lambda: rig.errors.get("network", 0) > 5)
            assert knows(rig, 7)
            assert not source.status.up
            for number in range(500):
                server.remove(make_pod(number)["metadata"]["uid"])
                server.put(make_pod(1000 + number))
            server.start()
            wait_until(lambda: knows(rig, 1499))
            wait_until(lambda: source.status.up)
            assert source.index.live_pods == 500

    def test_pauses_grow_to_the_cap_and_are_spread(self, server: KubeServer, rig: Rig) -> None:
        """Hours without the API cost a try every half minute at most, never in step with others."""
        server.stop()
        with running(rig):
            wait_until(lambda: len(rig.sleeper.waits) > 40)
        waits = [wait.seconds for wait in rig.sleeper.waits]
        assert waits[0] <= 1.0
        assert all(15.0 <= wait <= 30.0 for wait in waits[6:])
        assert len(set(waits[6:])) > 10

    def test_silent_watch_lists_again(
        self, server: KubeServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server restored from a backup is behind our position: what it has now is listed."""
        monkeypatch.setattr(apiserver, "_WATCH_LIMITS", Limits(read_s=0.1))
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.state.version = 1
            server.put(make_pod(1))
            wait_until(lambda: knows(rig, 1))
        assert rig.errors == {}

    def test_one_warning_for_a_long_outage(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An outage is logged when it begins and when it ends, not at each try."""
        caplog.set_level(logging.INFO)
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.stop()
            wait_until(lambda: rig.errors.get("network", 0) > 10)
            server.start()
            wait_until(lambda: rig.source.status.up)
        messages = [record.getMessage() for record in caplog.records]
        assert len([text for text in messages if "trying again" in text]) == 1
        assert messages[0] == "Kubernetes API: connected"
        assert re.fullmatch(r"Kubernetes API: connected again, after [0-9.]+ s", messages[-1])

    def test_status_tells_of_the_outage(self, server: KubeServer, rig: Rig) -> None:
        """Health shows the last good word, the pods kept and that the thread still tries."""
        server.put(make_pod(1))
        with running(rig) as source:
            wait_until(lambda: source.status.up)
            server.stop()
            wait_until(lambda: not source.status.up)
            wait_until(lambda: source.status.errors.get("network", 0) > 1)
            assert source.status.last_sync_s is not None
            assert source.index.live_pods == 1
        assert len(server.seen("list")) == 1
