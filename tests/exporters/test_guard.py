"""TLS and passwords, over real sockets."""

import base64
import http.client
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from email.message import Message
from functools import partial
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest
from http_clients import dial, send_all_and_end, trickling
from kube_certificates import Certificate, make_certificate
from prometheus_server import scraping, stored
from snapshots import HOST, Row, process, snapshot

from kepler_ebpf.config.web import read_web_config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.connection import Request
from kepler_ebpf.exporters.guard import MAX_WAITING, MAX_WAITING_OF_ONE, Guard
from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.model.snapshot import Snapshot

LEAST = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
RELOADED = b'kepler_ebpf_web_config_last_reload_successful{node_name="node-1"}'
EXPIRY = b'\nkepler_ebpf_web_certificate_expiry_timestamp_seconds{node_name="node-1"}'
HEADERS = "http_server_config: {headers: {X-Frame-Options: deny}}\n"

Serve = Callable[..., "Served"]


class Answered(NamedTuple):
    """An answer that was read to its end."""

    status: int
    headers: Message
    body: bytes


class Served:
    """A server with a web configuration, which can be changed."""

    now_s = 0.0
    """The rate limit's clock, which stands still."""

    def __init__(self, path: Path, stack: ExitStack, latest: Callable[[], Snapshot]) -> None:
        self.path = path
        self.guard = Guard(partial(read_web_config, path))
        stack.callback(self.guard.close)
        page = MetricsPage(HOST, web=lambda: self.guard.last_reload)
        service = Service(
            page,
            latest,
            lambda: self.now_s,
            1.0,
            lambda: None,
            access=self.guard,
            clock=lambda: self.now_s,
        )
        server = Server(["127.0.0.1:0"], service)
        stack.callback(server.close)
        self.address = ("127.0.0.1", int(server.addresses[0].rpartition(":")[2]))

    def change(self, text: str) -> None:
        """Write another configuration in place of the old one, as one step."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)

    def fetch(
        self,
        path: str = "/metrics",
        user: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        method: str = "GET",
    ) -> Answered:
        """Return the answer to one request."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        if tls:
            connection = http.client.HTTPSConnection(*self.address, timeout=10, context=tls)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        try:
            connection.request(
                method, path, headers={"Authorization": f"Basic {token}"} if user else {}
            )
            response = connection.getresponse()
            return Answered(response.status, response.headers, response.read())
        finally:
            connection.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve with the text of a web configuration."""
    with ExitStack() as stack:

        def start(text: str, latest: Callable[[], Snapshot] = snapshot) -> Served:
            path = tmp_path / "web.yml"
            path.write_text(text)
            return Served(path, stack, latest)

        yield start


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """Return a server's certificate of a CA of its own."""
    return make_certificate(tmp_path / "server")


def tls_of(certificate: Certificate, more: str = "") -> str:
    """Return a web configuration with this certificate."""
    pair = f"cert_file: {certificate.certificate}, key_file: {certificate.key}"
    return f"tls_server_config: {{{pair}{more}}}\n"


def trusting(certificate: Certificate) -> ssl.SSLContext:
    """Return a client's context that trusts the CA of *certificate*."""
    return ssl.create_default_context(cafile=str(certificate.ca))


def users(**hashes: str) -> str:
    """Return a web configuration with these users."""
    return "basic_auth_users:\n" + "".join(f"  {user}: {each}\n" for user, each in hashes.items())


def request_of(user: str, password: str, host: str) -> Request:
    """Return a request of this user, from this address."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Request("GET", "/metrics", {"authorization": f"Basic {token}"}, host)


def until(happens: Callable[[], bool]) -> None:
    """Wait until it happens."""
    give_up_s = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


# --- passwords


def test_only_users_with_their_password_are_let_in(serve: Serve) -> None:
    """Several users have each their own password; nobody else sees anything, on any path."""
    served = serve(users(prom=LEAST, eve=bcrypt.hashpw(b"ev\xc3\xa4", bcrypt.gensalt(5)).decode()))
    assert served.fetch(user="prom", password="secret").status == 200
    assert served.fetch(user="eve", password="evä").status == 200
    answers = [
        served.fetch(),
        served.fetch(user="prom", password="wrong"),
        served.fetch(user="prom", password=""),
        served.fetch(user="eve", password="secret"),
        served.fetch(user="nobody", password="secret"),
        served.fetch("/"),
        served.fetch("/no/such/path"),
        served.fetch(method="POST"),
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {
        'Basic realm="kepler-ebpf"'
    }


def test_password_beyond_what_bcrypt_reads(serve: Serve) -> None:
    """Of a long password the first 72 bytes count, as for every other program."""
    hashed = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    served = serve(users(prom=hashed))
    assert served.fetch(user="prom", password="a" * 100).status == 200
    assert served.fetch(user="prom", password="a" * 71).status == 401


def test_probes_need_no_password_and_get_no_reason(serve: Serve) -> None:
    """Probes see the status alone."""
    served = serve(users(prom=LEAST))
    for path in ("/healthz", "/readyz"):
        answer = served.fetch(path)
        assert (answer.status, answer.body) == (200, b"")
        assert served.fetch(path, "prom", "secret").body != b""


def test_headers_are_on_every_answer(serve: Serve) -> None:
    """What the configuration adds is on pages, refusals and probes."""
    served = serve(users(prom=LEAST) + HEADERS)
    for answer in (
        served.fetch(),
        served.fetch(user="prom", password="secret"),
        served.fetch("/healthz"),
    ):
        assert answer.headers["X-Frame-Options"] == "deny"


def test_wrong_passwords_keep_nobody_out(serve: Serve) -> None:
    """Beside a flood of wrong passwords, good ones and probes are answered, and few are checked."""
    slow = bcrypt.hashpw(b"secret", bcrypt.gensalt(12)).decode()
    served = serve(users(prom=slow))
    assert served.fetch(user="prom", password="secret").status == 200
    statuses: list[int] = []
    stop = threading.Event()

    def guess(number: int) -> None:
        while not stop.is_set():
            number += 10
            statuses.append(served.fetch(user="prom", password=f"guess{number}").status)

    guessing = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
    for thread in guessing:
        thread.start()
    answers = [served.fetch(user="prom", password="secret").status for _ in range(30)]
    probes = [served.fetch("/healthz").status for _ in range(30)]
    stop.set()
    for thread in guessing:
        thread.join()
    assert set(answers) == set(probes) == {200}
    assert set(statuses) == {401}
    assert MAX_WAITING_OF_ONE < 8  # so most of these guesses were refused without a check


def test_guesses_use_half_of_a_cpu_at_most(serve: Serve) -> None:
    """After each wrong password the check pauses, however many wait for it."""
    served = serve(users(prom=bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).decode()))
    (guard,) = [thread for thread in threading.enumerate() if thread.name == "guard"]
    clock = Path(f"/proc/self/task/{guard.native_id}/schedstat")
    began_ns, began_s = int(clock.read_text().split()[0]), time.monotonic()
    refused: list[bool] = []
    for number in range(MAX_WAITING):
        guess = request_of("prom", f"guess{number}", f"192.0.2.{number}")
        served.guard.admit(guess, refused.append)
    until(lambda: len(refused) >= MAX_WAITING // 2)
    used_ns = int(clock.read_text().split()[0]) - began_ns
    one_check = 1 / len(refused)
    assert used_ns < (0.5 + one_check) * (time.monotonic() - began_s) * 1e9
    assert not any(refused)


def test_guesses_from_many_addresses_keep_no_newcomer_out(serve: Serve) -> None:
    """Where all wait that may, the client with most of them loses its newest to another client."""
    served = serve(users(prom=bcrypt.hashpw(b"secret", bcrypt.gensalt(7)).decode()))
    guesses: list[bool] = []
    for number in range(MAX_WAITING):
        host = f"192.0.2.{number // MAX_WAITING_OF_ONE}"
        served.guard.admit(request_of("prom", f"guess{number}", host), guesses.append)
    decided: list[bool] = []
    served.guard.admit(request_of("prom", "secret", "198.51.100.1"), decided.append)
    until(lambda: bool(decided))
    assert decided == [True]
    until(lambda: len(guesses) == MAX_WAITING)
    assert not any(guesses)


def test_a_change_does_not_forget_who_is_known(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that was checked is not checked again, unless its user has got another one."""
    served = serve(users(prom=LEAST))
    assert served.fetch(user="prom", password="secret").status == 200
    checked: list[bytes] = []

    def check(password: bytes, _: bytes) -> bool:
        checked.append(password)
        return True

    monkeypatch.setattr("kepler_ebpf.exporters.guard.bcrypt.checkpw", check)
    served.change(users(prom=LEAST, eve=LEAST))
    until(lambda: served.fetch(user="eve", password="new").status == 200)
    checked.clear()
    assert served.fetch(user="prom", password="secret").status == 200
    assert not checked
    served.change(users(prom=bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()))
    until(lambda: served.fetch(user="prom", password="secret").status == 200 and len(checked) > 0)
    assert checked[-1] == b"secret"


# --- TLS


def test_tls_serves_and_plain_http_gets_nothing(
    serve: Serve, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that speaks TLS gets the page; one that does not, and garbage, get nothing."""
    served = serve(tls_of(certificate))
    answer = served.fetch(tls=trusting(certificate))
    assert (answer.status, b"kepler_build_info" in answer.body) == (200, True)
    plain = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for sent in (plain, bytes(1000), b"\x16\x03\x01\xff\xff", b"\x16", b""):
        assert b"HTTP" not in send_all_and_end(served.address, sent)
    assert served.fetch(tls=trusting(certificate)).status == 200
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_tls_ends_with_a_goodbye(serve: Serve, certificate: Certificate) -> None:
    """The client sees that the answer is whole: the end comes in TLS, and not only in TCP."""
    served = serve(tls_of(certificate))
    context = trusting(certificate)
    with context.wrap_socket(
        dial(served.address), server_hostname="127.0.0.1", suppress_ragged_eofs=False
    ) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.1 200")


def test_inline_certificate(serve: Serve, certificate: Certificate) -> None:
    """Certificate and key may stand in the configuration itself."""
    indented = {
        name: path.read_text().replace("\n", "\n    ")
        for name, path in (("cert", certificate.certificate), ("key", certificate.key))
    }
    text = "".join(f"  {name}: |\n    {pem}\n" for name, pem in indented.items())
    assert serve(f"tls_server_config:\n{text}").fetch(tls=trusting(certificate)).status == 200


def test_versions_and_ciphers(serve: Serve, certificate: Certificate) -> None:
    """A client below the least version is refused, and the only cipher allowed is used."""
    served = serve(tls_of(certificate, ", min_version: TLS13"))
    old = trusting(certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        served.fetch(tls=old)
    served = serve(
        tls_of(
            certificate,
            ", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]",
        )
    )
    with trusting(certificate).wrap_socket(
        dial(served.address), server_hostname="127.0.0.1"
    ) as client:
        cipher = client.cipher()
    assert cipher
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("name", ["DNS:prometheus", "IP:fe80::1"])
def test_client_certificates(
    name: str, serve: Serve, certificate: Certificate, tmp_path: Path
) -> None:
    """Only a client with a certificate of the right CA, and with an allowed name, is let in."""
    client = make_certificate(tmp_path / "client", name)
    other = make_certificate(tmp_path / "other", name)
    auth = f", client_ca_file: {client.ca}, client_auth_type: RequireAndVerifyClientCert"
    served = serve(tls_of(certificate, f"{auth}, client_allowed_sans: [prometheus, 'FE80:0::1']"))
    context = trusting(certificate)
    context.load_cert_chain(client.certificate, client.key)
    assert served.fetch(tls=context).status == 200
    stranger = trusting(certificate)
    stranger.load_cert_chain(other.certificate, other.key)
    for refused in (trusting(certificate), stranger):
        with pytest.raises((OSError, http.client.HTTPException)):
            served.fetch(tls=refused)
    served = serve(tls_of(certificate, f"{auth}, client_allowed_sans: [grafana]"))
    with pytest.raises((OSError, http.client.HTTPException)):
        served.fetch(tls=context)


def test_real_prometheus_is_let_in(serve: Serve, certificate: Certificate, tmp_path: Path) -> None:
    """A real Prometheus with the CA, a certificate of its own and a password finds us up."""
    client = make_certificate(tmp_path / "client", "DNS:prometheus")
    auth = f", client_ca_file: {client.ca}, client_auth_type: RequireAndVerifyClientCert"
    served = serve(tls_of(certificate, auth) + users(prom=LEAST))
    pair = {"cert_file": str(client.certificate), "key_file": str(client.key)}
    job = {
        "scheme": "https",
        "tls_config": {"ca_file": str(certificate.ca), **pair},
        "basic_auth": {"username": "prom", "password": "secret"},
    }
    with scraping("{}:{}".format(*served.address), tmp_path, **job) as prometheus:
        assert stored(prometheus, "kepler_node_cpu_watts and on() up == 1")


def test_large_page_reaches_a_slow_reader_whole(serve: Serve, certificate: Certificate) -> None:
    """A page that is written in many parts, between which the server waits, is the same page."""
    shown = snapshot([Row(process(pid)) for pid in range(5_000)])
    served = serve(tls_of(certificate), lambda: shown)
    whole = served.fetch(tls=trusting(certificate)).body
    with trusting(certificate).wrap_socket(
        dial(served.address), server_hostname="127.0.0.1"
    ) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = bytearray()
        while part := client.recv(65536):
            received += part
            if len(received) < len(whole) // 4:
                time.sleep(0.01)
    assert received.partition(b"\r\n\r\n")[2].count(b"\n") == whole.count(b"\n") > 10_000


def test_slow_handshakes_keep_nobody_out(serve: Serve, certificate: Certificate) -> None:
    """Clients that never end their handshake lose their places to those who do."""
    served = serve(tls_of(certificate))
    with trickling(served.address, [f"127.0.2.{number % 10 + 1}" for number in range(200)]):
        for _ in range(10):
            time.sleep(0.1)
            assert served.fetch(tls=trusting(certificate)).status == 200


def test_renegotiation_is_refused(serve: Serve, certificate: Certificate) -> None:
    """Who wants another handshake on a connection gets an alert, and others are served."""
    served = serve(tls_of(certificate))
    host, port = served.address
    client = ["openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}"]
    done = subprocess.run(client, input=b"R\n", capture_output=True, timeout=30, check=False)
    assert b"no renegotiation" in done.stderr
    assert served.fetch(tls=trusting(certificate)).status == 200


def test_half_closed_tls(serve: Serve, certificate: Certificate) -> None:
    """Who ends its side gets its answer if it has sent a request, and an error if not."""
    served = serve(tls_of(certificate))
    for sent, answer in (
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200"),
        (b"GET", b"HTTP/1.1 400"),
    ):
        with trusting(certificate).wrap_socket(
            dial(served.address), server_hostname="127.0.0.1"
        ) as client:
            client.sendall(sent)
            socket.socket.shutdown(client, socket.SHUT_WR)
            assert client.recv(len(b"HTTP/1.1 200")) == answer


def test_sessions_of_old_clients_are_forgotten(
    serve: Serve,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Clients without tickets, of which OpenSSL keeps sessions, have the context made anew."""
    monkeypatch.setattr("kepler_ebpf.exporters.guard.MAX_SESSIONS", 5)
    served = serve(tls_of(certificate))
    caplog.set_level(logging.DEBUG)
    old = trusting(certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.options |= ssl.OP_NO_TICKET
    for _ in range(5):
        assert "are forgotten" not in caplog.text
        assert served.fetch(tls=old).status == 200
    until(lambda: served.fetch(tls=old).status == 200 and "are forgotten" in caplog.text)


# --- the rate limit


def test_rate_limit(serve: Serve) -> None:
    """A burst is answered, then one request each interval; others get 429 and when to return."""
    served = serve("rate_limit: {interval: 32s, burst: 2}\n")
    assert [served.fetch(path).status for path in ("/metrics", "/", "/none")] == [200, 200, 429]
    served.now_s += 12
    answer = served.fetch()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "20")
    served.now_s += 20
    assert [served.fetch().status for _ in range(2)] == [200, 429]
    served.now_s += 3600
    assert [served.fetch().status for _ in range(3)] == [200, 200, 429]


def test_rate_limit_goes_before_passwords(serve: Serve) -> None:
    """Who is not let in takes from the limit too: no password is checked beyond it."""
    served = serve(users(prom=LEAST) + "rate_limit: {interval: 1h, burst: 2}\n" + HEADERS)
    assert [served.fetch(user=user).status for user in ("", "eve", "eve")] == [401, 401, 429]
    answer = served.fetch(user="prom", password="secret")
    assert (answer.status, answer.headers["X-Frame-Options"]) == (429, "deny")
    answer = served.fetch("/healthz", user="prom", password="secret")
    assert (answer.status, answer.body) == (200, b"")


def test_rate_limit_spares_probes(serve: Serve) -> None:
    """Probes take nothing from the limit and are answered beyond it; a POST is no probe."""
    served = serve("rate_limit: {interval: 1h, burst: 1}\n")
    for statuses in ([200, 429], [429, 429]):
        for path in ("/healthz", "/readyz") * 5:
            assert served.fetch(path).status == 200
        assert [served.fetch().status for _ in range(2)] == statuses
    assert served.fetch("/healthz", method="POST").status == 429


def test_rate_limit_is_read_anew(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Another limit holds at once, none is none; other changes and faults give no new burst."""
    limit = "rate_limit: {interval: 1h, burst: 1}\n"
    served = serve(limit)
    assert [served.fetch().status for _ in range(2)] == [200, 429]
    served.change(limit + HEADERS)
    until(lambda: served.fetch("/healthz").headers["X-Frame-Options"] == "deny")
    assert served.fetch().status == 429
    served.change(limit.replace("1h", "1d"))
    until(lambda: bool(served.fetch("/healthz").status == 200 and caplog.text))
    assert "stays as it was" in caplog.text
    assert "rate_limit.interval: '1d' is not understood" in caplog.text
    assert served.fetch().status == 429
    served.change(limit.replace("1h", "2h"))
    until(lambda: served.fetch().status == 200)
    assert served.fetch().status == 429
    served.change("")
    until(lambda: served.fetch().status == 200)
    assert served.fetch().status == 200


# --- changes


def test_change_of_the_file_is_taken(serve: Serve) -> None:
    """Another file lets others in, soon and without a restart; who was known is checked anew."""
    served = serve(users(prom=LEAST))
    assert served.fetch(user="prom", password="secret").status == 200
    served.change(users(eve=LEAST))
    until(lambda: served.fetch(user="eve", password="secret").status == 200)
    assert served.fetch(user="prom", password="secret").status == 401
    wanted = RELOADED + b" 1.0"
    until(lambda: wanted in served.fetch(user="eve", password="secret").body)


def test_reload_needs_no_change(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """What SIGHUP calls has the files read again, whatever they look like."""
    served = serve(users(prom=LEAST))
    caplog.set_level(logging.INFO)
    served.guard.reload()
    until(lambda: "was read anew" in caplog.text)


def test_renewed_certificate_is_taken(
    serve: Serve, certificate: Certificate, tmp_path: Path
) -> None:
    """A certificate that is replaced, with its key, is used for the next clients."""
    served = serve(tls_of(certificate))
    new = make_certificate(tmp_path / "new")
    new.key.replace(certificate.key)
    new.certificate.replace(certificate.certificate)

    def is_new() -> bool:
        with suppress(ssl.SSLError):
            return served.fetch(tls=trusting(new)).status == 200
        return False

    until(is_new)
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate.certificate)]
    end = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    end_s = ssl.cert_time_to_seconds(end.strip().removeprefix("notAfter="))

    def is_shown() -> bool:
        body = served.fetch(tls=trusting(new)).body
        return float(body.partition(EXPIRY)[2].split()[0]) == end_s

    until(is_shown)


@pytest.mark.parametrize(
    "broken", ["tls_server_config: {cert_file: none.pem, key_file: none.pem}\n", "users: {}\n"]
)
def test_broken_change_keeps_the_old(
    broken: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be used changes nothing, and the log names what is wrong in it."""
    served = serve(users(prom=LEAST))
    served.change(broken)
    until(lambda: served.fetch(user="prom", password="secret").status == 200 and bool(caplog.text))
    assert "The web configuration stays as it was" in caplog.text
    assert served.fetch().status == 401
    wanted = RELOADED + b" 0.0"
    until(lambda: wanted in served.fetch(user="prom", password="secret").body)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("other key", "do not belong together"),
        ("no pem", "do not belong together, or are not PEM"),
        ("missing", "No such file"),
        ("expired", "has expired"),
        ("cipher", "no client can be served"),
        ("empty ca", "no certificate in the clients' CA"),
    ],
)
def test_tls_that_cannot_work_is_an_error(
    what: str, said: str, certificate: Certificate, tmp_path: Path
) -> None:
    """A certificate that no client could be served with is refused at start, by its name."""
    text = tls_of(certificate)
    if what == "other key":
        text = text.replace(str(certificate.key), str(make_certificate(tmp_path / "o").key))
    elif what == "no pem":
        certificate.certificate.write_text("nothing")
    elif what == "missing":
        certificate.key.unlink()
    elif what == "expired":
        make_expired(certificate)
    elif what == "cipher":
        suites = "max_version: TLS12, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"
        text = tls_of(certificate, f", {suites}")
    else:
        (tmp_path / "ca.pem").write_text("")
        auth = "client_auth_type: RequireAndVerifyClientCert"
        text = tls_of(certificate, f", client_ca_file: ca.pem, {auth}")
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Guard(partial(read_web_config, path))
    assert said in caught.value.problem
    assert caught.value.remedy


def make_expired(certificate: Certificate) -> None:
    """Put a certificate in place of *certificate* that runs out at once."""
    command = f"x509 -req -in {certificate.key.parent}/tls.csr -signkey {certificate.key} -days 0"
    subprocess.run(
        ["openssl", *command.split(), "-out", str(certificate.certificate)],
        check=True,
        capture_output=True,
    )
    time.sleep(1.1)
