"""The API server mode against a real HTTP(S) server that lists and watches as Kubernetes does."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_server import (
    NODE,
    KubeServer,
    Rig,
    container_id,
    cut,
    make_certificate,
    make_pod,
    make_rig,
    raw,
    recorded,
    running,
    serving,
    slow,
    status,
    wait_until,
    write_kubeconfig,
)

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.workloads.pod_sources import PodSourceOptions, start_pod_source
from kepler_ebpf.workloads.pod_sources.api_errors import ApiError
from kepler_ebpf.workloads.pod_sources.apiserver import CERTIFICATE_REMEDY, ApiServerFollower
from kepler_ebpf.workloads.pod_sources.connection import Connection, Limits, Request
from kepler_ebpf.workloads.pod_sources.credentials import KubeConfigFile, ServiceAccount
from kepler_ebpf.workloads.pod_sources.pacing import Backoff

LIST = Request("/api/v1/pods", {}, "list pods", "list on pods")
K8S_RSS_MB = 45


@pytest.fixture
def server() -> Iterator[KubeServer]:
    """Serve a cluster with no pods."""
    with serving() as server:
        yield server


@pytest.fixture
def rig(server: KubeServer, tmp_path: Path) -> Rig:
    """Return a follower of that cluster, not yet running."""
    return rig_of(write_kubeconfig(tmp_path / "config", server.url))


def rig_of(kubeconfig: str, node: str = NODE) -> Rig:
    """Return a follower that uses this kubeconfig."""
    connection = Connection(KubeConfigFile(kubeconfig), certificate_remedy=CERTIFICATE_REMEDY)
    return make_rig(connection, ApiServerFollower, node)


def knows(rig: Rig, number: int) -> bool:
    """Tell whether pod *number* is known by its container."""
    return rig.source.find(container_id(number)) is not None


class TestFollowing:
    """A healthy server."""

    def test_pods_listed_are_known(self, server: KubeServer, rig: Rig) -> None:
        """The pods there are at the start are known after the list, labels by allow-list."""
        server.put(recorded("deployment"))
        rig.follower.step()
        found = rig.source.find("a1" * 32)
        assert found is not None
        assert (found.name, found.pod.name) == ("web", "web-6d4b75cb6d-hx8p2")
        assert found.pod.labels == (("app", "web"),)

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
            wait_until(lambda: source.status.connected)
            version = source.index.version
            assert not source.changed_since(version)
            server.put(make_pod(1))
            wait_until(lambda: source.changed_since(version))

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
            server.bookmark()
            bookmark = server.state.version
            heard = source.status.last_sync_s
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
        """Closing does not wait for the server to say something."""
        with running(rig) as source:
            wait_until(lambda: bool(server.seen("watch")))
            source.close()
            assert not source.status.running

    def test_unusual_names_arrive_unchanged(self, server: KubeServer, rig: Rig) -> None:
        """Unicode and quotes pass through list and watch."""
        names = ['say-"hi"\\', "пόд-日本-🐙"]
        for number, name in enumerate(names):
            value = make_pod(number)
            value["metadata"]["name"] = name
            server.put(value)
        rig.follower.step()
        assert sorted(pod.name for pod in rig.parts.index.pods()) == sorted(names)

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


class TestBadServers:
    """What a server or the way to it can do wrong."""

    @pytest.mark.parametrize("as_event", [True, False])
    def test_410_lists_again(self, server: KubeServer, rig: Rig, *, as_event: bool) -> None:
        """Too old a version, as an HTTP status or an ERROR event, makes a fresh full list."""
        server.put(make_pod(1))
        with running(rig):
            wait_until(lambda: len(server.seen("watch")) == 1)
            server.state.pods.clear()
            if as_event:
                server.send_error_event(410, "too old resource version: 1 (2)")
            else:
                server.answer_next("watch", status(410, "too old resource version"))
                server.end_watches()
            wait_until(lambda: len(server.seen("list")) == 2)
            wait_until(lambda: rig.parts.index.live_pods == 0)
        assert rig.errors == {"gone": 1}
        assert "resourceVersion" not in server.seen("list")[1].query

    def test_compaction_during_an_outage_lists_again(self, server: KubeServer, rig: Rig) -> None:
        """A server whose history went while we were away is listed anew."""
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.stop()
            server.put(make_pod(1))
            server.compact()
            server.start()
            wait_until(lambda: knows(rig, 1))
        assert rig.errors["gone"] == 1

    def test_401_reads_the_token_again(self, tmp_path: Path) -> None:
        """A token that is not accepted any more is read from its file again."""
        certificate = make_certificate(tmp_path / "tls")
        with serving(certificate) as server:
            account = service_account(tmp_path, server, certificate.ca, "old")
            server.state.token = "old"
            rig = make_rig(Connection(account, certificate_remedy=""), ApiServerFollower)
            with running(rig):
                wait_until(lambda: bool(server.seen("watch")))
                server.state.token = "new"
                server.end_watches()
                wait_until(lambda: rig.errors.get("unauthorized", 0) > 0)
                (account.directory / "token").write_text("new\n", encoding="utf-8")
                server.put(make_pod(1))
                wait_until(lambda: knows(rig, 1))
        assert set(rig.errors) == {"unauthorized"}

    def test_token_file_gone_is_counted_and_tried_again(self, tmp_path: Path) -> None:
        """Credentials that vanish while running do not end the source."""
        certificate = make_certificate(tmp_path / "tls")
        with serving(certificate) as server:
            account = service_account(tmp_path, server, certificate.ca, "t")
            rig = make_rig(Connection(account, certificate_remedy=""), ApiServerFollower)
            (account.directory / "token").unlink()
            rig.parts.connection.renew()
            with running(rig):
                wait_until(lambda: rig.errors.get("credentials", 0) > 1)
                (account.directory / "token").write_text("t", encoding="utf-8")
                wait_until(lambda: rig.source.status.connected)

    def test_403_names_verb_resource_and_remedy(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A missing right is told with verb, resource, scope and what to grant, once."""
        said = 'pods is forbidden: User "kepler" cannot list resource "pods"'
        server.answer_next("list", *[status(403, said)] * 3)
        with running(rig):
            wait_until(lambda: rig.source.status.connected)
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len([record for record in warnings if "403" in record.getMessage()]) == 1
        for part in ("list pods cluster-wide", "verbs list and watch on pods", said):
            assert part in caplog.text
        assert rig.errors == {"forbidden": 3}

    def test_429_waits_as_long_as_it_asks(self, server: KubeServer, rig: Rig) -> None:
        """Retry-After lengthens the pause before the next try."""
        server.answer_next("list", status(429, "slow down", Retry_After="77"))
        with running(rig):
            wait_until(lambda: rig.source.status.connected)
        assert rig.sleeper.waits[0].seconds == rig.sleeper.waits[0].least_s == 77.0

    @pytest.mark.parametrize(
        ("header", "seconds"), [("1e9", 300.0), ("-5", 0.0), ("nan", 0.0), ("Tue, 24 Nov", 0.0)]
    )
    def test_absurd_retry_after_is_bounded(
        self, server: KubeServer, rig: Rig, header: str, seconds: float
    ) -> None:
        """A wait that makes no sense is cut to five minutes, or ignored."""
        server.answer_next("list", status(429, "slow down", Retry_After=header))
        with pytest.raises(ApiError) as caught:
            rig.follower.step()
        assert caught.value.retry_after_s == seconds

    def test_reset_in_the_middle_of_an_object_loses_nothing(
        self, server: KubeServer, rig: Rig
    ) -> None:
        """A watch torn inside an object goes on from the last whole one, without a list."""
        with running(rig):
            wait_until(lambda: len(server.seen("watch")) == 1)
            server.end_watches(tear=True)
            server.put(make_pod(1))
            wait_until(lambda: knows(rig, 1))
        assert rig.errors.get("network", 0) >= 1
        assert len(server.seen("list")) == 1

    def test_list_cut_short_changes_nothing(self, server: KubeServer, rig: Rig) -> None:
        """Half a list never ends the pods of its other half."""
        for number in range(50):
            server.put(make_pod(number))
        rig.follower.step()
        body = server.list_body()
        server.answer_next("watch", status(410))
        server.answer_next("list", cut(body[: len(body) // 2]), cut(body[:-1]))
        for _ in range(3):
            with pytest.raises(ApiError):
                rig.follower.step()
        assert rig.parts.index.live_pods == 50

    def test_slow_body_is_read_to_its_end(self, server: KubeServer, rig: Rig) -> None:
        """A body in small late pieces is as good as a quick one."""
        server.put(make_pod(1))
        server.answer_next("list", slow(server.list_body(), 400, 0.001))
        rig.follower.step()
        assert knows(rig, 1)

    @pytest.mark.parametrize("limits", [Limits(body_s=0.05), Limits(read_s=0.005)])
    def test_body_that_takes_too_long_is_given_up(
        self, server: KubeServer, rig: Rig, limits: Limits
    ) -> None:
        """A body that trickles, or stalls, does not hold the thread for ever."""
        server.answer_next("list", slow(b"[" * 1000, 1, 0.02))
        with (
            pytest.raises(ApiError, match="timeout|takes too long|nothing more"),
            rig.parts.connection.get(LIST, limits) as chunks,
        ):
            list(chunks)

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>sign in</html>",
            b"",
            b"[]",
            b"{}",
            b'{"kind":"Status","code":200}',
            b'{"kind":"PodList","items":[',
            b'{"kind":"PodList","items":[]}',
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    def test_answer_that_is_no_list_is_an_error(
        self, server: KubeServer, rig: Rig, body: bytes
    ) -> None:
        """What is not a whole list of pods is refused; known pods stay."""
        server.put(make_pod(1))
        rig.follower.step()
        server.answer_next("watch", status(410))
        server.answer_next("list", raw(body))
        for _ in range(2):
            with pytest.raises(ApiError):
                rig.follower.step()
        assert knows(rig, 1)

    @pytest.mark.parametrize(
        "line", [b"not json", b'{"type":"NEWS","object":{}}', b"[1]", b"{" * 50_000, b"\xff\xfe"]
    )
    def test_watch_line_that_makes_no_sense_lists_again(
        self, server: KubeServer, rig: Rig, line: bytes
    ) -> None:
        """An unreadable event is counted and the state is fetched afresh."""
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.send_event(line)
            wait_until(lambda: len(server.seen("list")) == 2)
        assert rig.errors == {"malformed": 1}

    def test_object_that_is_no_pod_is_skipped(self, server: KubeServer, rig: Rig) -> None:
        """One item without a uid is counted; the others are taken in."""
        bad = make_pod(2)
        body = json.loads(server.list_body())
        del bad["metadata"]["uid"]
        body["items"] = [None, make_pod(1), bad]
        server.answer_next("list", raw(json.dumps(body).encode()))
        rig.follower.step()
        assert knows(rig, 1)
        assert rig.errors == {"malformed": 2}

    def test_certificate_that_does_not_verify(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A certificate of another CA is refused, and told with the reason and a remedy."""
        other_ca = make_certificate(tmp_path / "other").ca
        with serving(make_certificate(tmp_path / "tls")) as server:
            rig = rig_of(write_kubeconfig(tmp_path / "config", server.url, other_ca))
            with running(rig):
                wait_until(lambda: rig.errors.get("certificate", 0) > 1)
        assert not server.state.seen
        assert f"certificate of {server.url} does not verify" in caplog.text
        assert CERTIFICATE_REMEDY in caplog.text

    def test_certificate_of_another_name(self, tmp_path: Path) -> None:
        """A certificate for another address is refused."""
        certificate = make_certificate(tmp_path / "tls", "DNS:api.example")
        with serving(certificate) as server:
            rig = rig_of(write_kubeconfig(tmp_path / "config", server.url, certificate.ca))
            with pytest.raises(ApiError, match="IP address mismatch") as caught:
                rig.follower.step()
        assert caught.value.reason == "certificate"

    def test_http_where_tls_is_expected(self, server: KubeServer, tmp_path: Path) -> None:
        """A server that does not speak TLS is a network error, not a crash."""
        rig = rig_of(write_kubeconfig(tmp_path / "c", server.url.replace("http", "https")))
        with pytest.raises(ApiError) as caught:
            rig.follower.step()
        assert caught.value.reason == "network"

    def test_redirect_is_not_followed(self, server: KubeServer, rig: Rig) -> None:
        """The token is never carried to where a server points."""
        server.answer_next("list", status(302, Location="http://192.0.2.1/"))
        with pytest.raises(ApiError, match="HTTP 302"):
            rig.follower.step()


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
            assert not source.status.connected
            for number in range(500):
                server.remove(make_pod(number)["metadata"]["uid"])
                server.put(make_pod(1000 + number))
            server.start()
            wait_until(lambda: knows(rig, 1499))
            wait_until(lambda: source.status.connected)
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

    def test_one_warning_for_a_long_outage(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An outage is logged when it begins and when it ends, not at each try."""
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.stop()
            wait_until(lambda: rig.errors.get("network", 0) > 10)
            server.start()
            wait_until(lambda: rig.source.status.connected)
        messages = [record.getMessage() for record in caplog.records]
        assert len([text for text in messages if "trying again" in text]) == 1
        assert messages[-1] == "Kubernetes API: connected"

    def test_status_tells_of_the_outage(self, server: KubeServer, rig: Rig) -> None:
        """Health shows the last good word, the pods kept and that the thread still tries."""
        server.put(make_pod(1))
        with running(rig) as source:
            wait_until(lambda: source.status.connected)
            server.stop()
            wait_until(lambda: not source.status.connected)
            now = source.status
        assert now.running
        assert now.live_pods == 1
        assert now.last_sync_s is not None
        assert now.syncs == 1


class TestSetup:
    """Wrong input at the start."""

    def test_kubeconfig_missing(self, tmp_path: Path) -> None:
        """The file and the flag are named."""
        path = str(tmp_path / "absent")
        with pytest.raises(ConfigError, match=r"absent: No such file.*--kube\.config"):
            start_pod_source(PodSourceOptions("apiserver", NODE, path))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"just text",
            b"[1, 2]",
            b"{a: b: c}",
            b"\xff\xfe\x00",
            b"kind: Config",
            b"clusters: 5\ncurrent-context: x\ncontexts: []",
            b"current-context: a\ncontexts: [{name: a, context: {cluster: none}}]",
            b"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
            b"clusters: [{name: c, cluster: {}}]",
            b"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
            b"clusters: [{name: c, cluster: {server: 'https://x', "
            b"certificate-authority-data: '!'}}]",
            b"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
            b"clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: no}}]",
        ],
    )
    def test_kubeconfig_invalid(self, tmp_path: Path, content: bytes) -> None:
        """Whatever is in it, the error names the file."""
        path = tmp_path / "config"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="the kubeconfig .*config is not valid"):
            start_pod_source(PodSourceOptions("apiserver", NODE, str(path)))

    def test_no_credentials_at_all(self, tmp_path: Path) -> None:
        """Outside a pod and without a kubeconfig the remedy is told."""
        with pytest.raises(ConfigError, match="Give a kubeconfig"):
            start_pod_source(PodSourceOptions("apiserver", NODE, service_account_dir=tmp_path))

    @pytest.mark.parametrize("name", ["Node-A", "a,b", "a b", "a=b", "-a", "x" * 254, 'a"'])
    def test_name_that_no_node_can_have(self, name: str) -> None:
        """A name that would break the selector is refused with what is allowed."""
        with pytest.raises(ConfigError, match="cannot be a node's name"):
            start_pod_source(PodSourceOptions("apiserver", name))

    def test_no_node_name(self) -> None:
        """The key is named when it is empty."""
        with pytest.raises(ConfigError, match="kube.nodeName"):
            start_pod_source(PodSourceOptions("apiserver", ""))

    def test_node_the_cluster_does_not_have(
        self, server: KubeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A node name nobody has is told once, clearly, and the source goes on."""
        rig = rig_of(write_kubeconfig(tmp_path / "c", server.url), "node-x")
        rig.follower.step()
        server.answer_next("watch", status(410))
        with pytest.raises(ApiError):
            rig.follower.step()
        rig.follower.step()
        assert caplog.text.count("no node named node-x") == 1
        assert rig.errors == {}

    def test_empty_node_without_the_right_to_look(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without rights on nodes a node without pods is a milder warning, no error."""
        server.answer_next("node", status(403, "nodes is forbidden"))
        rig.follower.step()
        assert f"no pod on a node named {NODE}" in caplog.text
        assert rig.errors == {}

    def test_start_does_not_wait_for_the_api(self, tmp_path: Path) -> None:
        """With the API down the start returns and the thread keeps trying."""
        kubeconfig = write_kubeconfig(tmp_path / "c", "http://127.0.0.1:1")
        options = PodSourceOptions("apiserver", NODE, kubeconfig, backoff=Backoff(0.001, 0.01))
        source = start_pod_source(options)
        try:
            wait_until(lambda: source.status.errors.get("network", 0) > 3)
            assert source.index.pods() == ()
        finally:
            source.close()


class TestMemory:
    """What Kubernetes costs."""

    def test_kubernetes_is_not_imported_before_it_is_on(self) -> None:
        """Importing the sources imports neither kubernetes nor urllib3."""
        code = (
            "import sys, kepler_ebpf.workloads.pod_sources; "
            "print([m for m in ('kubernetes', 'urllib3') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert done.stdout == b"[]\n"

    def test_k8s_rss_mb(self, server: KubeServer, tmp_path: Path) -> None:
        """A process that follows 500 pods is at most 45 MB larger than before it did."""
        for number in range(500):
            server.put(make_pod(number))
        kubeconfig = write_kubeconfig(tmp_path / "c", server.url)
        done = subprocess.run(
            [sys.executable, "-c", RSS_SCRIPT, kubeconfig],
            check=True,
            capture_output=True,
            text=True,
        )
        assert float(done.stdout) <= K8S_RSS_MB


RSS_SCRIPT = """
import sys, time
import click, numpy, prometheus_client, yaml
from kepler_ebpf.workloads.pod_sources import PodSourceOptions, start_pod_source
def rss_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
before = rss_mb()
source = start_pod_source(PodSourceOptions("apiserver", "node-a", sys.argv[1]))
while source.index.live_pods < 500:
    time.sleep(0.01)
print(rss_mb() - before)
source.close()
"""


def service_account(directory: Path, server: KubeServer, ca: Path, token: str) -> ServiceAccount:
    """Return a service account mounted at *directory* for this server."""
    (directory / "token").write_text(token, encoding="utf-8")
    (directory / "ca.crt").write_bytes(ca.read_bytes())
    port = server.url.rpartition(":")[2]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    return ServiceAccount(directory, environ)
