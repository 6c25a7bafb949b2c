"""The HTTP server, over real sockets."""

import gzip
import http.client
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote, urljoin
from urllib.request import urlopen

import pytest
from http_clients import PROBE, read_all, send_all_and_end
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_server import scraping, stored
from snapshots import HOST, Row, process, snapshot

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.exporters.connection import Times
from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.places import MAX_CONNECTIONS, MAX_OF_ONE_ADDRESS
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.model.snapshot import Snapshot

Start = Callable[..., Server]
INDEX = (files("kepler_ebpf.exporters") / "live" / "index.html").read_bytes()
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers on loopback that show a fresh snapshot; all are closed in the end."""
    servers = []

    def start_one(
        *addresses: str,
        latest: Callable[[], Snapshot | None] = lambda: snapshot(at_s=time.time()),
        last_interval_s: Callable[[], float | None] = time.monotonic,
        timeout_s: float = 5.0,
        refresh: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Server:
        times = Times(timeout_s, timeout_s)
        service = Service(
            MetricsPage(HOST), latest, last_interval_s, 1.0, refresh, times=times, clock=clock
        )
        server = Server(addresses or ("127.0.0.1:0",), service)
        servers.append(server)
        return server

    yield start_one
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run one server with a fresh snapshot for every test that only asks."""
    latest = partial(snapshot, at_s=time.time())
    service = Service(MetricsPage(HOST), latest, time.monotonic, 1.0, refresh=lambda: None)
    server = Server(["127.0.0.1:0"], service)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever a client does, nothing is printed and nothing above debug is logged."""
    yield
    assert [r for r in caplog.records if r.levelno > logging.DEBUG] == []
    assert capsys.readouterr() == ("", "")


def port_of(server: Server) -> int:
    """Return the port of the server's first address."""
    return int(server.addresses[0].rpartition(":")[2])


def fetch(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one request to the first address."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def dial(server: Server) -> socket.socket:
    """Return a connected socket to the first address."""
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=10)


def open_sockets() -> set[str]:
    """Return the sockets that this process has open, on either side."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The descriptor of this very search.
            links.append(str(link.readlink()))
    return {link for link in links if link.startswith("socket:")}


def wait_until(happened: Callable[[], bool]) -> bool:
    """Wait until it happened, at most ten seconds; returns whether it did."""
    give_up_s = time.monotonic() + 10
    while not happened() and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return happened()


def test_metrics_are_served_as_text(server: Server) -> None:
    """A scrape without wishes gets the text format with its length and type."""
    status, headers, body = fetch(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Content-Length"] == str(len(body))
    assert "kepler_process_cpu_joules" in {family.name for family in parse_text(body.decode())}


def test_metrics_are_served_as_openmetrics(server: Server) -> None:
    """A scrape that asks for OpenMetrics gets it, with its end mark."""
    accept = "application/openmetrics-text;version=1.0.0"
    _, headers, body = fetch(server, "/metrics", Accept=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5", "br,GZIP"])
def test_metrics_are_gzipped_when_accepted(accepted: str, server: Server) -> None:
    """A client that takes gzip gets it."""
    _, headers, body = fetch(server, "/metrics", Accept_Encoding=accepted)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).startswith(b"# HELP")


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "gzip; q=0.0, br"])
def test_metrics_are_plain_when_gzip_is_not_accepted(accepted: str, server: Server) -> None:
    """A client that does not take gzip, or refuses it by name, gets plain text."""
    _, headers, body = fetch(server, "/metrics", Accept_Encoding=accepted)
    assert "Content-Encoding" not in headers
    assert body.startswith(b"# HELP")


def test_metrics_can_be_filtered_by_name(server: Server) -> None:
    """``name[]`` keeps the metrics it names."""
    query = f"{quote('name[]')}=kepler_node_cpu_watts&name[]=kepler_vm_cpu_watts"
    _, _, body = fetch(server, f"/metrics?{query}")
    names = {family.name for family in parse_text(body.decode())}
    assert names == {"kepler_node_cpu_watts", "kepler_vm_cpu_watts"}


def test_refresh_comes_before_a_scrape(start: Start) -> None:
    """A scrape shows what its refresh published; a probe asks for no refresh."""
    published: list[Snapshot] = []
    server = start(
        latest=lambda: published[-1] if published else None,
        refresh=lambda: published.append(snapshot(at_s=time.time())),
    )
    fetch(server, "/healthz")
    fetch(server, "/readyz")
    assert published == []
    assert b"kepler_node_cpu_watts" in fetch(server, "/metrics")[2]
    assert len(published) == 1


def test_the_root_points_to_the_metrics(server: Server) -> None:
    """The root links to the metrics, the probes and the API, wherever a proxy puts it."""
    status, headers, body = fetch(server, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for root in ("http://x/", "http://x/nodes/a/"):
        links = {urljoin(root, link) for link in re.findall(r'href="([^"]+)"', body.decode())}
        there = ("metrics", "healthz", "readyz", "api/v1/snapshot", "api/v1/history")
        assert links >= {f"{root}{path}" for path in there}


def test_healthz_needs_no_snapshot(start: Start) -> None:
    """A program that answers is alive, measured anything or not."""
    assert fetch(start(latest=lambda: None), "/healthz")[::2] == (200, b"ok\n")


def test_readyz_waits_for_the_first_interval(start: Start) -> None:
    """Before the first interval the server is not ready, and the reply has the reason."""
    status, _, body = fetch(start(last_interval_s=lambda: None), "/readyz")
    assert (status, b"no interval has been measured" in body) == (503, True)


def test_readyz_with_a_recent_interval(start: Start) -> None:
    """A recent interval makes the server ready, even some intervals ago and without a snapshot."""
    server = start(latest=lambda: None, last_interval_s=lambda: time.monotonic() - 10)
    assert fetch(server, "/readyz")[::2] == (200, b"ready\n")


def test_readyz_with_an_old_interval(start: Start) -> None:
    """An interval that ended more than 15 s and five intervals ago is not good enough."""
    server = start(last_interval_s=lambda: time.monotonic() - 16)
    status, _, body = fetch(server, "/readyz")
    assert (status, b"more than 15 s" in body) == (503, True)


@pytest.mark.parametrize(("interval_s", "limit_s"), [(1.0, 60.0), (10.0, 100.0)])
@pytest.mark.parametrize("has_begun", [True, False], ids=["stopped", "never-begun"])
def test_healthz_fails_when_intervals_end_no_more(
    has_begun: bool, interval_s: float, limit_s: float
) -> None:
    """A loop that hangs for a minute and ten intervals makes the program not alive."""
    now_s = [1000.0]
    service = Service(
        MetricsPage(HOST),
        latest=snapshot,
        last_interval_s=lambda: 1000.0 if has_begun else None,
        interval_s=interval_s,
        refresh=lambda: None,
        clock=lambda: now_s[0],
    )
    server = Server(["127.0.0.1:0"], service)
    now_s[0] += limit_s
    alive = fetch(server, "/healthz")
    now_s[0] += 1
    dead = fetch(server, "/healthz")
    server.close()
    assert alive[::2] == (200, b"ok\n")
    assert (dead[0], f"more than {limit_s:g} s".encode() in dead[2]) == (503, True)


@pytest.mark.parametrize("path", ["/metrics", "/", "/healthz"])
def test_head_has_the_headers_of_get(path: str, start: Start) -> None:
    """HEAD answers as GET does, without the body."""
    server = start(latest=lambda: None)
    status, headers, body = fetch(server, path, "HEAD")
    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == fetch(server, path)[1]["Content-Length"]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("http://node-1:28282/healthz", b"ok\n"),
        ("HTTPS://[::1]/healthz?why", b"ok\n"),
        ("http://localhost", INDEX),
        ("http://localhost?why", INDEX),
    ],
)
def test_whole_url_is_answered_as_its_path(target: str, answer: bytes, server: Server) -> None:
    """A client may name scheme and host in its request, as HTTP wants servers to accept."""
    assert fetch(server, target)[::2] == (200, answer)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metrics/",
        "http://localhost/no",
        "x://y/healthz",
        "//[",
        "/%00",
        "/../etc/passwd",
    ],
)
def test_unknown_path_is_a_clear_404(path: str, server: Server) -> None:
    """The reply to an unknown path lists the known ones in plain text."""
    status, headers, body = fetch(server, path)
    assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert body.startswith(b"404 Not Found: there are /metrics")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_a_clear_405(method: str, server: Server) -> None:
    """A method that is not GET or HEAD is refused with what is allowed."""
    status, headers, body = fetch(server, "/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == b"405 Method Not Allowed: use GET or HEAD\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", b"405"),
        (PROBE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"200"),
        (PROBE[:-2] + b"Transfer-Encoding: chunked\r\n\r\nno chunk", b"200"),
        (PROBE[:-2] + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", b"200"),
        (PROBE[:-2] + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"200"),
        (PROBE * 20, b"200"),
        (PROBE.replace(b"GET", b"HEAD") * 20, b"200"),
    ],
    ids=["connect", "chunked", "no chunk", "expect", "upgrade", "pipelined", "heads"],
)
def test_a_connection_serves_one_request(sent: bytes, status: bytes, server: Server) -> None:
    """Whatever comes with a request and after it, there is one answer, and the connection ends."""
    received = send_all_and_end(("127.0.0.1", port_of(server)), sent)
    assert received[9:12] == status
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /metrics HT",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /metrics HTTP/x.y\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost\xff : \xfe\r\n\r\n",
        b"GET /metrics\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        + b"9" * 5_000
        + b"\r\n\r\n",
    ],
)
def test_broken_request_leaves_the_server_alive(sent: bytes, server: Server) -> None:
    """Half, wrong and strange requests end their own connection and nothing else."""
    send_all_and_end(("127.0.0.1", port_of(server)), sent)
    assert fetch(server, "/healthz")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
    ids=["line", "header", "headers"],
)
def test_oversized_request_is_refused(sent: bytes, server: Server) -> None:
    """A request line or headers of 100 kB get a 4xx and the server lives."""
    with dial(server) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        answer = read_all(connection)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 414", b"HTTP/1.1 431"))
    assert fetch(server, "/healthz")[0] == 200


def test_client_that_leaves_early_is_survived(server: Server) -> None:
    """Clients that reset the connection while their page is made disturb no other."""
    for _ in range(10):
        with dial(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(SCRAPE)
    assert fetch(server, "/metrics")[0] == 200


def test_silent_client_is_cut_off(start: Start) -> None:
    """A client that sends nothing is closed when its time is over."""
    server = start(timeout_s=0.2)
    with dial(server) as connection:
        assert read_all(connection) == b""


def test_trickling_client_is_cut_off(start: Start) -> None:
    """A client that always sends a little, and never all, is closed when its time is over."""
    server = start(timeout_s=0.3)
    with dial(server) as connection:
        connection.settimeout(0.1)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for number in range(200):
            try:
                connection.sendall(b"X-%d: y\r\n" % (number % 90))
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the connection was never closed")


def test_client_that_does_not_read_is_cut_off(start: Start) -> None:
    """A client that does not read a page of 10 MB loses the rest of it, and its place."""
    shown = snapshot([Row(process(pid)) for pid in range(10_000)])
    server = start(latest=lambda: shown, timeout_s=3)
    before = open_sockets()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port_of(server)))
        connection.sendall(SCRAPE)
        assert wait_until(lambda: len(open_sockets() - before) == 2)
        assert wait_until(lambda: len(open_sockets() - before) == 1)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    [length] = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Le")]
    assert len(body) < length


def wake_ups(thread: threading.Thread) -> int:
    """Return how often a thread of this process has woken from a wait so far."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text("utf-8")
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_listener_without_clients_sleeps(start: Start) -> None:
    """The server wakes for clients only: none of its waits ends without one."""
    before, sockets = set(threading.enumerate()), open_sockets()
    server = start(timeout_s=0.01)
    threads = set(threading.enumerate()) - before
    assert fetch(server, "/healthz")[0] == 200
    assert wait_until(lambda: len(open_sockets() - sockets) == 1)
    time.sleep(0.2)  # past the deadline of that connection
    counted = [wake_ups(thread) for thread in threads]
    time.sleep(0.2)
    assert [wake_ups(thread) for thread in threads] == counted


def test_number_of_threads_does_not_follow_the_clients(start: Start) -> None:
    """Clients that are there at once have no thread each."""
    before = set(threading.enumerate())
    server = start()
    held = [dial(server) for _ in range(20)]
    assert fetch(server, "/metrics")[0] == 200
    assert len(set(threading.enumerate()) - before) == 2
    for connection in held:
        connection.close()


@pytest.mark.parametrize("addresses", [1, 8])
def test_new_client_takes_the_place_of_the_longest_waiting(addresses: int, start: Start) -> None:
    """When one address, or all, have all of their places, the oldest without a request is cut."""
    server = start()
    limit = min(MAX_OF_ONE_ADDRESS * addresses, MAX_CONNECTIONS)
    address = "127.0.0.1", port_of(server)
    held = [
        socket.create_connection(address, 10, (f"127.0.1.{number % addresses + 1}", 0))
        for number in range(limit)
    ]
    with socket.create_connection(address, 10, ("127.0.1.1", 0)) as newest:
        assert held[0].recv(1) == b""
        newest.sendall(SCRAPE)
        assert read_all(newest).startswith(b"HTTP/1.1 200")
    held[-1].sendall(SCRAPE)
    assert read_all(held[-1]).startswith(b"HTTP/1.1 200")
    for connection in held:
        connection.close()


def test_many_readers_at_once_get_the_same_page(start: Start) -> None:
    """Concurrent scrapes of one snapshot all get the same, whole page."""
    shown = snapshot(at_s=time.time())
    server = start(latest=lambda: shown)
    pages = []
    query = "/metrics?name[]=kepler_process_cpu_joules_total"
    readers = [
        threading.Thread(target=lambda: pages.append(fetch(server, query)[2])) for _ in range(12)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(pages) == 12
    assert len(set(pages)) == 1


def test_fault_of_ours_is_logged_and_survived(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug while a page is made ends that request with a trace in the log, and no other."""

    def latest() -> Snapshot | None:
        raise RuntimeError("a bug")

    server = start(latest=latest)
    with pytest.raises(http.client.RemoteDisconnected):
        fetch(server, "/metrics")
    assert fetch(server, "/healthz")[0] == 200
    assert "a bug" in caplog.text
    caplog.clear()


def test_all_interfaces_are_both_families(start: Start) -> None:
    """``:PORT`` answers on IPv4 and on IPv6."""
    server = start(":0")
    port = port_of(server)
    assert server.addresses == (f":{port}",)
    for host in ("127.0.0.1", "[::1]"):
        with urlopen(f"http://{host}:{port}/healthz", timeout=10) as answer:
            assert answer.status == 200


def test_several_addresses_are_served(start: Start) -> None:
    """Each address is listened on and has its real port."""
    server = start("127.0.0.1:0", "[::1]:0", "localhost:0")
    hosts = [address.rpartition(":")[0] for address in server.addresses]
    assert hosts == ["127.0.0.1", "[::1]", "localhost"]
    for address in server.addresses:
        assert not address.endswith(":0")
        with urlopen(f"http://{address}/healthz", timeout=10) as answer:
            assert answer.status == 200


def test_closed_server_frees_its_port_and_its_clients(start: Start) -> None:
    """After close nothing listens, open connections end, and the port can be had again."""
    server = start()
    with dial(server) as connection:
        server.close()
        assert read_all(connection) == b""
    with pytest.raises(ConnectionRefusedError):
        dial(server)
    start(server.addresses[0])


@pytest.mark.parametrize("pattern", ["127.0.0.1:{}", ":{}", "[::]:{}"])
def test_taken_port_is_a_setup_error(pattern: str, start: Start) -> None:
    """A port that is in use is named together with what to do."""
    taken = pattern.format(port_of(start(":0")))
    with pytest.raises(SetupError) as raised:
        start(taken)
    problem, remedy = str(raised.value).splitlines()
    assert problem == f"cannot listen on {taken}: Address already in use"
    assert "choose another port" in remedy


def test_host_without_ipv6(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """All interfaces are then those of IPv4, and an address of IPv6 is a setup error."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert fetch(start(":0"), "/healthz")[0] == 200
    with pytest.raises(SetupError, match=r"cannot listen on \[::\]:0: .*ipv6 not supported"):
        start("[::]:0")


def test_failing_address_frees_the_ones_before(start: Start) -> None:
    """When one of several addresses fails, none stays open."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SetupError):
        start(f"127.0.0.1:{port}", "192.0.2.1:0")
    start(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("192.0.2.1:0", "one of this host's interfaces"),
        ("no-such-host.invalid:0", "choose another address"),
        ("a..b:0", "choose another address"),
    ],
)
def test_address_of_another_host_is_a_setup_error(address: str, remedy: str, start: Start) -> None:
    """An address this host does not have is named together with what to do."""
    with pytest.raises(SetupError) as raised:
        start(address)
    problem, hint = str(raised.value).splitlines()
    assert address in problem
    assert remedy in hint


@pytest.mark.parametrize(
    "address",
    [
        *("", "28282", ":", "localhost", ":70000", ":-1", "::1:80", "[::1]80", "h:8o", "a b:1"),
        *("unix:", "unix:relative", "unix:@name", "/run/metrics.sock", f"unix:/{'x' * 107}"),
    ],
)
def test_address_that_is_none_is_a_config_error(address: str, start: Start) -> None:
    """An address that cannot be understood is shown with the forms that can."""
    with pytest.raises(ConfigError) as raised:
        start(address)
    problem, remedy = str(raised.value).splitlines()
    assert repr(address) in problem
    assert "HOST:PORT" in remedy


def test_real_prometheus_stores_our_series(start: Start, tmp_path: Path) -> None:
    """A real Prometheus scrapes us and answers with our series, labels and figures."""
    query = 'kepler_process_cpu_joules_total{state="running",zone="package"} and on() up == 1'
    with scraping(start().addresses[0], tmp_path) as prometheus:
        [series] = stored(prometheus, query)
    assert series["metric"]["comm"] == "worker"
    assert series["metric"]["node_name"] == "node-1"
    assert series["value"][1] == "2"
