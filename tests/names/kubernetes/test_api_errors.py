"""What an API server, or the way to it, can do wrong: counted, told and survived."""

import json
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kube_certificates import make_certificate, write_kubeconfig, write_login
from kube_rig import Rig, knows, make_rig, rig_of, running, service_account
from kube_server import (
    KubeServer,
    cut,
    make_pod,
    raw,
    serving,
    slow,
    status,
    wait_until,
)
from urllib3 import connection
from urllib3.util import ssl_

from kepler_ebpf.model.pods import PodInfo
from kepler_ebpf.names.kubernetes.api_errors import ApiError
from kepler_ebpf.names.kubernetes.apiserver import CERTIFICATE_REMEDY, ApiServerFollower
from kepler_ebpf.names.kubernetes.connection import Connection, Limits, Request
from kepler_ebpf.names.kubernetes.credentials import Endpoint, KubeConfigFile
from kepler_ebpf.names.kubernetes.kubelet import KubeletFollower

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - of this host, and not on its loopback
LIST = Request("/api/v1/pods", {}, "list pods", "list on pods")


pytest_plugins = ["kube_fixtures"]


def be_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new TLS contexts be as Python 3.13 makes them."""
    make = ssl_.create_urllib3_context

    def strict(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = make(*args, **kwargs)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    for module in (ssl_, connection):
        monkeypatch.setattr(module, "create_urllib3_context", strict)


def in_mode(mode: str, kubeconfig: str, url: str) -> Rig:
    """Return a follower of the API server, or of a kubelet, at *url*."""
    if mode == "apiserver":
        return rig_of(kubeconfig)
    kubelet = Connection(KubeConfigFile(kubeconfig), Endpoint(url), certificate_remedy="")
    return make_rig(kubelet, lambda parts: KubeletFollower(parts, 15.0))


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

    def test_restart_of_the_server_is_one_warning(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That a server refuses for a moment while it starts, and knows no old version, is calm."""
        with running(rig):
            wait_until(lambda: bool(server.seen("watch")))
            server.stop()
            wait_until(lambda: rig.errors.get("network", 0) > 1)
            server.answer_next("watch", status(403), status(410))
            server.start()
            wait_until(lambda: len(server.seen("list")) == 2 and rig.source.status.up)
        assert rig.errors["forbidden"] == rig.errors["gone"] == 1
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert ["127.0.0.1" in record.getMessage() for record in warnings] == [True]

    def test_trouble_of_another_kind_is_told_when_it_lasts(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After one kind of failure another one is logged, once, as soon as it comes twice."""
        server.answer_next("list", *[status(500)] * 2, *[status(403)] * 5)
        with running(rig):
            wait_until(lambda: rig.source.status.up)
        codes = [code for code in ("500", "403") if caplog.text.count(f"HTTP {code}") == 1]
        assert codes == ["500", "403"]

    def test_bug_does_not_end_the_thread(
        self, rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What nobody foresaw is counted and told once, with its reason, and tried again."""
        replace, failures = rig.parts.index.replace, [RuntimeError("out of luck")] * 3

        def failing(pods: Iterable[PodInfo]) -> None:
            if failures:
                raise failures.pop()
            replace(pods)

        monkeypatch.setattr(rig.parts.index, "replace", failing)
        with running(rig):
            wait_until(lambda: rig.source.status.up)
        assert rig.errors == {"internal": 3}
        assert caplog.text.count("RuntimeError: out of luck") == 1

    def test_410_between_pages_lists_in_one_piece(self, server: KubeServer, rig: Rig) -> None:
        """When the rest of a paged list has gone, the next list asks for all of it at once."""
        for number in range(300):
            server.put(make_pod(number))
        page = json.loads(server.list_body())
        page["metadata"]["continue"] = "expired"
        server.answer_next("list", raw(json.dumps(page).encode()), status(410, "expired"))
        with running(rig):
            wait_until(lambda: rig.parts.index.live_pods == 300)
        assert "limit" not in server.seen("list")[2].query

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
                wait_until(lambda: rig.source.status.up)

    @pytest.mark.parametrize("token", ["line one\nline two", "se\u00e7ret", "\x00"])
    def test_token_that_is_none_stays_out_of_the_log(self, tmp_path: Path, token: str) -> None:
        """A token file with anything else in it is an error that does not repeat it."""
        certificate = make_certificate(tmp_path / "tls")
        with serving(certificate) as server:
            account = service_account(tmp_path, server, certificate.ca, token)
            rig = make_rig(Connection(account, certificate_remedy=""), ApiServerFollower)
            with pytest.raises(ApiError) as caught:
                rig.follower.step()
        assert caught.value.reason == "credentials"
        assert token not in str(caught.value)

    def test_403_names_verb_resource_and_remedy(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A missing right is told with verb, resource, scope and what to grant, once."""
        said = 'pods is forbidden: User "kepler" cannot list resource "pods"'
        server.answer_next("list", *[status(403, said)] * 3)
        with running(rig):
            wait_until(lambda: rig.source.status.up)
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len([record for record in warnings if "403" in record.getMessage()]) == 1
        for part in ("list pods cluster-wide", "verbs list and watch on pods", said):
            assert part in caplog.text
        assert rig.errors == {"forbidden": 3}

    def test_429_waits_as_long_as_it_asks(self, server: KubeServer, rig: Rig) -> None:
        """Retry-After lengthens the pause before the next try."""
        server.answer_next("list", status(429, "slow down", Retry_After="77"))
        with running(rig):
            wait_until(lambda: rig.source.status.up)
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

    @pytest.mark.parametrize("limits", [Limits(body_s=0.05), Limits(read_s=0.1)])
    def test_body_that_takes_too_long_is_given_up(
        self, server: KubeServer, rig: Rig, limits: Limits
    ) -> None:
        """A body that trickles, or stalls, does not hold the thread for ever."""
        server.answer_next("list", slow(b"[" * 1000, 1, 0.3))
        with (
            pytest.raises(ApiError, match=r"takes too long|nothing more"),
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

    @pytest.mark.parametrize(
        "missing", ["keyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier"]
    )
    @pytest.mark.parametrize("mode", ["apiserver", "kubelet"])
    def test_ca_of_an_older_cluster_verifies(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, mode: str
    ) -> None:
        """A CA that lacks what RFC 5280 wants is a CA, also where Python is strict by default."""
        be_strict(monkeypatch)
        certificate = make_certificate(tmp_path / "tls", ca_without=[missing])
        with serving(certificate) as server:
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url, certificate.ca)
            rig = in_mode(mode, kubeconfig, server.url)
            rig.follower.step()
            assert rig.parts.journal.status.up

    @pytest.mark.parametrize("mode", ["apiserver", "kubelet"])
    def test_strict_python_still_wants_the_right_ca_and_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        """A certificate of another CA, or for another address, is refused as before."""
        be_strict(monkeypatch)
        other = make_certificate(tmp_path / "other", "DNS:api.example")
        with serving(make_certificate(tmp_path / "tls")) as server:
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url, other.ca)
            with pytest.raises(ApiError, match="unable to get local issuer"):
                in_mode(mode, kubeconfig, server.url).follower.step()
        with serving(other) as server:
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url, other.ca)
            with pytest.raises(ApiError, match="IP address mismatch"):
                in_mode(mode, kubeconfig, server.url).follower.step()

    def test_expired_certificate_is_to_be_renewed(self, tmp_path: Path) -> None:
        """No other CA file mends it, so none is asked for."""
        certificate = make_certificate(tmp_path / "tls", days=-1)
        with serving(certificate) as server:
            rig = rig_of(write_kubeconfig(tmp_path / "config", server.url, certificate.ca))
            with pytest.raises(ApiError, match="certificate has expired") as caught:
                rig.follower.step()
        assert "have the certificate renewed" in caught.value.remedy

    def test_certificate_signed_by_no_ca_is_to_be_made_anew(self, tmp_path: Path) -> None:
        """A server's certificate that has signed another is no CA, whatever file it is in."""
        certificate = make_certificate(
            tmp_path / "tls", basic_constraints="critical,CA:FALSE", ca_without=["keyUsage"]
        )
        with serving(certificate) as server:
            rig = rig_of(write_kubeconfig(tmp_path / "config", server.url, certificate.ca))
            with pytest.raises(ApiError, match="does not verify") as caught:
                rig.follower.step()
        assert "made anew" in caught.value.remedy

    def test_certificate_that_is_not_verified_is_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A kubeconfig that accepts any certificate works, and is told of once."""
        with serving(make_certificate(tmp_path / "tls")) as server:
            cluster = {"server": server.url, "insecure-skip-tls-verify": True}
            rig = rig_of(write_login(tmp_path / "config", cluster, {"token": "t"}))
            for _ in range(2):
                rig.follower.step()
                rig.parts.connection.renew()
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert ["insecure-skip-tls-verify" in each.getMessage() for each in warnings] == [True]

    @pytest.mark.parametrize(
        ("host", "user", "is_told"),
        [
            (ANY_ADDRESS, {"token": "t"}, True),
            (ANY_ADDRESS, {}, False),
            ("localhost", {"token": "t"}, False),
        ],
    )
    def test_token_without_tls_is_a_warning(
        self,
        server: KubeServer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        host: str,
        user: dict[str, str],
        *,
        is_told: bool,
    ) -> None:
        """Where a token leaves the host in plain text, which one on the loopback does not."""
        url = server.url.replace("127.0.0.1", host)
        rig_of(write_login(tmp_path / "config", {"server": url}, user)).follower.step()
        assert ("has no TLS" in caplog.text) == is_told

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
