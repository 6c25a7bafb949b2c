"""Pushing to receivers that are slow, full, wrong or away: nothing waits, all is counted."""

import gzip
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kube_certificates import make_certificate
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from snapshots import snapshot

from kepler_ebpf.exporters import otlp_push
from kepler_ebpf.exporters.otlp import Messages
from kepler_ebpf.exporters.otlp_http import (
    Receiver,
    RejectedError,
    UndeliveredError,
    retry_after_s,
)
from kepler_ebpf.exporters.otlp_push import Pusher
from kepler_ebpf.model.levels import LEVELS

GIVE_UP_S = 30
PARTIAL = ExportMetricsServiceResponse(
    partial_success=ExportMetricsPartialSuccess(rejected_data_points=3, error_message="no\nroom")
)

Answer = tuple[int, bytes, dict[str, str]]
FINE: Answer = (200, b"", {})


class Collector(ThreadingHTTPServer):
    """A receiver that gives one answer after the other, the last of them for ever."""

    daemon_threads = True

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.got: list[tuple[dict[str, str], bytes]] = []

    def handle_error(self, *_: object) -> None:
        """A client that goes away is nothing."""


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.server.got.append((dict(self.headers), self.rfile.read(length)))
        answers = self.server.answers
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collector(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Collector]:
    """Serve a receiver."""
    with Collector(list(answers)) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def url(server: Collector, scheme: str = "http") -> str:
    """Return its address."""
    return f"{scheme}://127.0.0.1:{server.server_port}/v1/metrics"


@contextmanager
def pushing(receiver: Receiver, interval_s: float = 0.05) -> Iterator[Pusher]:
    """Push the same snapshot again and again."""
    shown = snapshot(at_s=time.time() + 1)
    pusher = Pusher(receiver, Messages({}, frozenset(LEVELS)), lambda: shown, interval_s)
    try:
        yield pusher
    finally:
        pusher.close()


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    give_up_s = time.monotonic() + GIVE_UP_S
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_push_is_a_request_as_the_protocol_has_it() -> None:
    """Compressed, with the headers given, again in every period."""
    with collector(FINE) as server:
        receiver = Receiver(url(server), {"X-Token": "secret"})
        with pushing(receiver) as pusher:
            until(lambda: pusher.exports["sent"] > 2)
        headers, body = server.got[0]
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["X-Token"] == "secret"
    assert "secret" not in repr(receiver)
    assert ExportMetricsServiceRequest.FromString(gzip.decompress(body)).resource_metrics
    assert pusher.exports == {"sent": len(server.got), "rejected": 0, "failed": 0}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_receiver_gets_the_same_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause, and it counts as sent."""
    monkeypatch.setattr(otlp_push, "FIRST_PAUSE_S", 0.01)
    with collector((status, b"", {}), (status, b"", {}), FINE) as server:
        with pushing(Receiver(url(server)), interval_s=5) as pusher:
            pusher.close()
        until(lambda: pusher.exports["failed"])
        assert len(server.got) == 1, "a push at the end is not tried again"
        server.answers[:] = [(status, b"", {}), (status, b"", {}), FINE]
        with pushing(Receiver(url(server)), interval_s=1) as pusher:
            until(lambda: pusher.exports["sent"])
        assert server.got[1][1] == server.got[2][1] == server.got[3][1]


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    """Or the next period comes first, whose message has everything."""
    with collector((503, b"", {"Retry-After": "1"})) as server:
        began_s = time.monotonic()
        with pushing(Receiver(url(server)), interval_s=2.5) as pusher:
            until(lambda: len(server.got) >= 2)
            assert time.monotonic() - began_s >= 2.5 + 1
            assert pusher.exports["sent"] == 0
        server.answers[:] = [(429, b"", {"Retry-After": "3600"})]
        with pushing(Receiver(url(server)), interval_s=0.1) as pusher:
            until(lambda: pusher.exports["failed"] > 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((400, b"bad\x1b[31m\ndata", {}), r"status 400: bad\\x1b[31m\\ndata"),
        ((413, b"", {}), "status 413"),
        ((301, b"", {"Location": "http://192.0.2.1/"}), "status 301"),
        ((200, PARTIAL.SerializeToString(), {}), r"3 figures were rejected: no\nroom"),
    ],
)
def test_what_is_rejected_is_not_sent_again(
    answer: Answer, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, and logged once."""
    with collector(answer) as server:
        with pushing(Receiver(url(server))) as pusher:
            until(lambda: pusher.exports["rejected"] > 2)
        assert len(server.got) == sum(pusher.exports.values())
    (line,) = [each for each in caplog.messages if each.startswith("OTLP")]
    assert reason.replace("\\\\", "\\") in line


def test_an_answer_that_is_no_message_is_a_yes() -> None:
    """The status counts."""
    with collector((200, b"\xff<html>" * 100_000, {})) as server:
        Receiver(url(server)).post(b"")


def _garbage(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"\x00\x01\x02" * 1_000)


def _nothing(connection: socket.socket) -> None:
    connection.recv(65_536)


def _drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n" * 1_000)


def _endless_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def _silent(connection: socket.socket) -> None:
    connection.recv(65_536)
    time.sleep(GIVE_UP_S)


@contextmanager
def hostile(act: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve connections that *act* answers, however it likes; the address."""
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                act(connection)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/metrics"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("act", [_garbage, _nothing, _drip, _endless, _endless_body, _silent])
def test_a_hostile_receiver_costs_one_time_out(act: Callable[[socket.socket], None]) -> None:
    """Whatever it sends, and however slowly; its answer is read up to a limit."""
    with hostile(act) as address:
        receiver = Receiver(address, timeout_s=0.5)
        with pytest.raises(UndeliveredError):
            receiver.post(b"message" * 10)


def test_a_receiver_that_fails_is_logged_once_and_again_when_it_works(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the number of pushes that failed."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(otlp_push, "FIRST_PAUSE_S", 0.01)
    with collector((503, b"", {})) as server, pushing(Receiver(url(server))) as pusher:
        until(lambda: pusher.exports["failed"] > 2)
        server.answers[:] = [FINE]
        until(lambda: pusher.exports["sent"])
    lines = [each for each in caplog.messages if each.startswith("OTLP")]
    assert "it is tried again every period" in lines[0]
    assert "takes figures again, after" in lines[1]


def test_a_receiver_that_is_away_gets_nothing() -> None:
    """The error says why."""
    with collector(FINE) as server:
        address = url(server)
    with pytest.raises(UndeliveredError, match="refused"):
        Receiver(address).post(b"")


def test_the_end_does_not_wait_for_a_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes no figures until it gives up; the last ones are lost."""
    monkeypatch.setattr(otlp_push, "CLOSE_WAIT_S", 0.2)
    with hostile(_silent) as address, pushing(Receiver(address, timeout_s=60)) as pusher:
        time.sleep(0.1)
        began_s = time.monotonic()
        pusher.close()
        assert time.monotonic() - began_s < GIVE_UP_S


def test_tls_trusts_the_ca_that_was_given_and_shows_a_certificate(tmp_path: Path) -> None:
    """And no other CA."""
    ours, other = make_certificate(tmp_path / "a"), make_certificate(tmp_path / "b")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.certificate, ours.key)
    context.load_verify_locations(other.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with collector(FINE, tls=context) as server:
        address, pair = url(server, "https"), (str(other.certificate), str(other.key))
        Receiver(address, {}, GIVE_UP_S, True, str(ours.ca), *pair).post(b"")
        for receiver in (
            Receiver(address, {}, GIVE_UP_S, True, str(other.ca), *pair),
            Receiver(address, {}, GIVE_UP_S, True, str(ours.ca)),
        ):
            with pytest.raises(UndeliveredError):
                receiver.post(b"")
        assert len(server.got) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-1", 0), ("1e999", 0), ("nan", 0), ("x", 0), (None, 0), ("", 0)],
)
def test_a_time_to_retry_that_is_nonsense_is_none(text: str | None, seconds: float) -> None:
    """Strangers write it."""
    assert retry_after_s(text) == seconds


def test_a_time_to_retry_may_be_a_date() -> None:
    """Which HTTP allows."""
    assert retry_after_s("Thu, 01 Jan 2970 00:00:00 GMT") > 1e9
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_a_rejection_is_no_reason_to_hold_back_the_rest() -> None:
    """It is an error of its own kind."""
    with collector((404, b"no such path", {})) as server, pytest.raises(RejectedError):
        Receiver(url(server)).post(b"")


def test_files_that_only_root_may_read(tmp_path: Path) -> None:
    """The thread that pushes has other rights, and reads a CA and a key with its certificate."""
    ours = make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text(ours.certificate.read_text() + ours.key.read_text())
    for path in (both, ours.ca):
        path.chmod(0o600)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.ca))
    context.load_cert_chain(ours.certificate, ours.key)
    with collector(FINE, tls=context) as server:
        receiver = Receiver(url(server, "https"), ca=str(ours.ca), certificate=str(both))
        with pushing(receiver) as pusher:
            until(lambda: sum(pusher.exports.values()))
        assert not pusher.exports["failed"]
