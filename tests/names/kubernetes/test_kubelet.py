"""The kubelet mode against a real HTTPS server that answers /pods as a kubelet does."""

import itertools
import logging
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kube_certificates import Certificate, make_certificate, write_kubeconfig
from kube_rig import Rig, make_rig, running
from kube_server import (
    NODE,
    KubeServer,
    container_id,
    make_pod,
    raw,
    recorded,
    serving,
    wait_until,
)

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.names.kubernetes.api_errors import ApiError
from kepler_ebpf.names.kubernetes.connection import Connection
from kepler_ebpf.names.kubernetes.credentials import (
    Credentials,
    Endpoint,
    KubeConfigFile,
    ServiceAccount,
)
from kepler_ebpf.names.kubernetes.kubelet import CERTIFICATE_REMEDY, KubeletFollower, kubelet_url
from kepler_ebpf.names.kubernetes.pacing import Sleeper, Wait
from kepler_ebpf.names.kubernetes.start import PodSourceOptions, start_pod_source

POLL_S = 15.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a serving certificate for 127.0.0.1 with its CA."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Certificate) -> Iterator[KubeServer]:
    """Serve a kubelet with no pods that accepts the token "first"."""
    with serving(certificate) as server:
        server.state.token = "first"
        yield server


@pytest.fixture
def account(tmp_path: Path, certificate: Certificate) -> ServiceAccount:
    """Return a service account with the token "first" and the kubelet's CA."""
    (tmp_path / "token").write_text("first", encoding="utf-8")
    shutil.copy(certificate.ca, tmp_path / "ca.crt")
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
    return ServiceAccount(tmp_path, environ)


@pytest.fixture
def rig(server: KubeServer, account: ServiceAccount) -> Rig:
    """Return a follower of that kubelet with that account, not yet running."""
    return rig_of(account, Endpoint(server.url))


def rig_of(credentials: Credentials, endpoint: Endpoint, node: str = NODE) -> Rig:
    """Return a follower of the kubelet at *endpoint*."""
    connection = Connection(credentials, endpoint, certificate_remedy=CERTIFICATE_REMEDY)
    return make_rig(connection, lambda parts: KubeletFollower(parts, POLL_S), node)


def end_handshakes(listener: socket.socket) -> None:
    """Answer each connection with the TLS alert "internal error", until *listener* is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x15\x03\x03\x00\x02\x02\x50")


class TestPolling:
    """A healthy kubelet."""

    def test_pods_are_known_after_a_poll(self, server: KubeServer, rig: Rig) -> None:
        """Pods of the API and static ones, which have no uid of the API here, are known."""
        server.put(recorded("deployment"))
        server.put(recorded("static_kubelet"))
        rig.follower.step()
        found = rig.source.find("d1" * 32)
        assert found is not None
        name, pod = found
        assert (name, pod.pod_name) == ("etcd", "etcd-node-a")
        assert rig.parts.index.pod("3f5b0c1d9e8a7b6c5d4e3f2a1b0c9d8e") == pod
        assert rig.parts.index.live_pods == 2

    def test_node_without_pods(self, server: KubeServer, rig: Rig) -> None:
        """A list whose items are null, as Go writes an empty one, is a list."""
        assert b'"items": null' in server.state.kubelet_list()
        rig.follower.step()
        assert rig.parts.journal.status.up
        assert rig.parts.index.live_pods == 0

    def test_pod_that_is_gone_has_ended(self, server: KubeServer, rig: Rig) -> None:
        """A pod missing from a poll is not live any more, but still known."""
        server.put(make_pod(1))
        rig.follower.step()
        server.remove(make_pod(1)["metadata"]["uid"])
        rig.follower.step()
        assert rig.parts.index.live_pods == 0
        assert rig.source.find(container_id(1))

    def test_pause_is_the_poll_interval_within_a_tenth(self, rig: Rig) -> None:
        """Polls are spread a little, so that a cluster's nodes do not poll in step."""
        waits = [rig.follower.step() for _ in range(20)]
        assert all(0.9 * POLL_S <= wait.seconds <= 1.1 * POLL_S for wait in waits)
        assert len({wait.seconds for wait in waits}) > 10

    def test_token_is_read_again_at_each_poll(
        self, server: KubeServer, rig: Rig, account: ServiceAccount
    ) -> None:
        """A renewed token is used at the very next poll, without an error in between."""
        rig.follower.step()
        server.state.token = "second"
        (account.directory / "token").write_text("second\n", encoding="utf-8")
        rig.follower.step()
        assert [request.token for request in server.seen("pods")] == ["first", "second"]
        assert rig.errors == {}

    def test_unknown_container_makes_the_next_poll_early_once(self, rig: Rig) -> None:
        """A new id ends the pause once; asked for again, a pause container changes nothing."""
        sleeper = CountingSleeper()
        source = type(rig.source)(rig.follower.step, rig.parts, sleeper)
        for _ in range(100):
            source.find("pause")
        assert sleeper.nudges == 1

    def test_container_that_the_kubelet_lists_late_is_looked_for_twice(
        self, server: KubeServer, rig: Rig
    ) -> None:
        """After a nudge the kubelet is asked once more, as soon as it may be asked."""
        with running(rig):
            wait_until(lambda: len(server.seen("pods")) > 1)
            rig.source.find("new")
            wait_until(lambda: any(wait.seconds < POLL_S / 2 for wait in rig.sleeper.waits))
            polls = len(rig.sleeper.waits)
            wait_until(lambda: len(rig.sleeper.waits) > polls + 3)
        assert sum(wait.seconds < POLL_S / 2 for wait in rig.sleeper.waits) == 1

    def test_made_up_containers_do_not_keep_the_kubelet_busy(self, rig: Rig) -> None:
        """However many new ids turn up, after two looks that found nothing a pause is whole."""
        ids = map(str, itertools.count())
        rig.sleeper.before_sleep = lambda: rig.source.find(next(ids))
        with running(rig):
            wait_until(lambda: len(rig.sleeper.waits) > 12)
        assert [wait.least_s >= 0.9 * POLL_S for wait in rig.sleeper.waits[2:12]] == [
            True,
            False,
        ] * 5

    def test_nudge_ends_a_pause_after_its_least_time(self) -> None:
        """A nudged sleeper returns long before its pause is over, and keeps the next one."""
        sleeper = Sleeper()
        sleeper.nudge()
        sleeper.sleep(Wait(seconds=3600.0, least_s=0.001))
        sleeper.stop()
        sleeper.sleep(Wait(seconds=3600.0, least_s=3600.0))
        assert sleeper.is_stopped()

    def test_kubeconfig_serves_a_kubelet_too(
        self, server: KubeServer, certificate: Certificate, tmp_path: Path
    ) -> None:
        """The credentials of a kubeconfig are used for the kubelet's address, poll after poll."""
        config = write_kubeconfig(
            tmp_path / "c", "https://192.0.2.1", certificate.ca, token="first"
        )
        rig = rig_of(KubeConfigFile(config), Endpoint(server.url))
        for number in (1, 2):
            server.put(make_pod(number))
            rig.follower.step()
            assert rig.source.find(container_id(number))

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("node-a", "https://node-a:10250"),
            ("192.0.2.7", "https://192.0.2.7:10250"),
            ("2001:db8::7", "https://[2001:db8::7]:10250"),
            ("[2001:db8::7]", "https://[2001:db8::7]:10250"),
            ("node-a:10251", "https://node-a:10251"),
            ("[2001:db8::7]:10251", "https://[2001:db8::7]:10251"),
        ],
    )
    def test_address_of_the_kubelet(self, host: str, url: str) -> None:
        """Names and addresses of both families make an URL."""
        assert kubelet_url(host) == url


class TestBadKubelets:
    """What a kubelet or the way to it can do wrong."""

    def test_certificate_is_verified(
        self, account: ServiceAccount, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A self-made certificate is refused with the ways out of it, and no token is sent."""
        with serving(make_certificate(tmp_path / "self")) as server:
            rig = rig_of(account, Endpoint(server.url))
            with running(rig):
                wait_until(lambda: rig.errors.get("certificate", 0) > 1)
        assert not server.state.seen
        assert "serverTLSBootstrap" in caplog.text

    def test_certificate_that_is_not_approved_yet(
        self, account: ServiceAccount, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A kubelet that waits for its certificate ends the handshake; the way out is told."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=end_handshakes, args=(listener,), daemon=True).start()
            port = listener.getsockname()[1]
            rig = rig_of(account, Endpoint(f"https://127.0.0.1:{port}"))
            with running(rig):
                wait_until(lambda: rig.errors.get("certificate", 0) > 1)
            listener.shutdown(socket.SHUT_RDWR)
        assert "may not be approved" in caplog.text
        assert CERTIFICATE_REMEDY in caplog.text

    def test_own_ca_verifies(self, account: ServiceAccount, tmp_path: Path) -> None:
        """The CA file given for the kubelet is used instead of the cluster's."""
        own = make_certificate(tmp_path / "self")
        with serving(own) as server:
            rig_of(account, Endpoint(server.url, str(own.ca))).follower.step()
            assert len(server.seen("pods")) == 1

    def test_verification_can_be_switched_off(
        self, account: ServiceAccount, tmp_path: Path
    ) -> None:
        """Only when asked for, any certificate is accepted."""
        with serving(make_certificate(tmp_path / "self")) as server:
            rig_of(account, Endpoint(server.url, verify=False)).follower.step()
            assert len(server.seen("pods")) == 1

    def test_403_names_the_right(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A kubelet's plain-text refusal is told with the verb and resource to grant."""
        said = b"Forbidden (user=kepler, verb=get, resource=nodes, subresource(s)=[pods proxy])"
        server.answer_next("pods", raw(said, "text/plain", 403))
        with running(rig):
            wait_until(lambda: rig.source.status.up)
        for part in (server.url, "verb get on nodes/pods", "nodes/proxy", said.decode()):
            assert part in caplog.text
        assert rig.errors == {"forbidden": 1}

    def test_401_keeps_the_pods_and_tries_again(
        self, server: KubeServer, rig: Rig, account: ServiceAccount
    ) -> None:
        """A token that is refused is counted; with a good one the next poll works."""
        server.put(make_pod(1))
        rig.follower.step()
        server.state.token = "second"
        with running(rig):
            wait_until(lambda: rig.errors.get("unauthorized", 0) > 1)
            assert rig.source.find(container_id(1))
            (account.directory / "token").write_text("second", encoding="utf-8")
            wait_until(lambda: rig.source.status.up)

    @pytest.mark.parametrize("body", [b"404 page not found", b"{}", b'{"kind":"PodList","items":'])
    def test_answer_that_is_no_list_keeps_the_pods(
        self, server: KubeServer, rig: Rig, body: bytes
    ) -> None:
        """What is not a whole list ends no pod."""
        server.put(make_pod(1))
        rig.follower.step()
        server.answer_next("pods", raw(body))
        with pytest.raises(ApiError):
            rig.follower.step()
        assert rig.parts.index.live_pods == 1

    def test_kubelet_of_another_node(
        self, server: KubeServer, account: ServiceAccount, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A node name that is not this kubelet's is told once, with both names."""
        server.put(make_pod(1))
        rig = rig_of(account, Endpoint(server.url), "node-x")
        rig.follower.step()
        rig.follower.step()
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert f"node {NODE}, not node-x" in caplog.text

    def test_ca_file_that_is_missing(self, account: ServiceAccount) -> None:
        """A CA file that is not there is an error at the start that names it."""
        with pytest.raises(ConfigError, match="/absent/ca"):
            rig_of(account, Endpoint("https://127.0.0.1:1", "/absent/ca"))

    def test_outage_of_the_kubelet(self, server: KubeServer, rig: Rig) -> None:
        """While the kubelet restarts its pods stay known, and new ones are after it."""
        server.put(make_pod(1))
        with running(rig):
            wait_until(lambda: rig.source.find(container_id(1)) is not None)
            server.stop()
            wait_until(lambda: rig.errors.get("network", 0) > 3)
            assert rig.parts.index.live_pods == 1
            server.put(make_pod(2))
            server.start()
            wait_until(lambda: rig.source.find(container_id(2)) is not None)

    def test_start_needs_credentials(self, tmp_path: Path) -> None:
        """Outside a pod and without a kubeconfig the start fails with the remedy."""
        with pytest.raises(ConfigError, match="give a kubeconfig"):
            start_pod_source(PodSourceOptions("kubelet", NODE, service_account_dir=tmp_path))

    def test_start_polls_the_node_by_name(self, tmp_path: Path, certificate: Certificate) -> None:
        """Without an address the node's name is asked, and a refused connection is counted."""
        config = write_kubeconfig(tmp_path / "c", "https://192.0.2.1", certificate.ca)
        source = start_pod_source(PodSourceOptions("kubelet", "localhost", config))
        try:
            wait_until(lambda: source.status.errors.get("network", 0) > 0)
        finally:
            source.close()


class CountingSleeper(Sleeper):
    """Counts the nudges."""

    nudges = 0

    def nudge(self) -> None:
        """Count, then nudge."""
        self.nudges += 1
        super().nudge()
