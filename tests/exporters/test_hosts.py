"""The Host of a request: a name of a stranger reads nothing of a server on loopback alone."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from chromium import chromium
from http_clients import read_all
from snapshots import HOST, snapshot

from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.listen import dial
from kepler_ebpf.exporters.prometheus import MetricsPage

Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """Serve on addresses; all are closed in the end."""
    with ExitStack() as stack:

        def start_one(*addresses: str, allowed: tuple[str, ...] = ()) -> Server:
            page = MetricsPage(HOST)
            service = Service(
                page, snapshot, time.monotonic, 1.0, lambda: None, allowed_hosts=allowed
            )
            server = Server(addresses or ("127.0.0.1:0",), service)
            stack.callback(server.close)
            return server

        yield start_one


def status(server: Server, host: str, path: str = "/metrics", address: int = 0) -> int:
    """Return the status of a request with this Host, at one of the addresses."""
    with dial(server.addresses[address], 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(read_all(connection)[9:12])


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:28282", "app.localhost.", "127.0.0.1:1", "[::1]:80", "192.0.2.1", ""],
)
def test_names_that_lead_nowhere_else_are_served(host: str, start: Start) -> None:
    """No stranger can have localhost or an address lead to another host first."""
    assert status(start(), host) == 200


@pytest.mark.parametrize(
    "host", ["a.example", "a.example:28282", "localhost.a.example", "127.0.0.1.a.example", "[x]"]
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/snapshot", "/no"])
def test_other_names_get_nothing_on_loopback(host: str, path: str, start: Start) -> None:
    """A name that leads to 127.0.0.1 today led a browser to somebody else before."""
    assert status(start(), host, path) == 421


def test_probes_have_any_name(start: Start) -> None:
    """Whether we live is no secret."""
    assert status(start(), "a.example", "/healthz") == 200


def test_allowed_names_are_served(start: Start) -> None:
    """A proxy may pass on the name that its clients use, or any."""
    named, any_name = start(allowed=("Power.example",)), start(allowed=("*",))
    assert status(named, "power.example:443") == status(any_name, "a.example") == 200
    assert status(named, "a.example") == 421


def test_network_and_unix_sockets_have_any_name(start: Start) -> None:
    """Who is on the network needs no browser of this host, and no browser opens a unix socket."""
    assert status(start(":0"), "a.example") == 200
    with tempfile.TemporaryDirectory() as folder:
        server = start(f"unix:{Path(folder, 'socket')}", "127.0.0.1:0")
        assert [status(server, "a.example", address=number) for number in (0, 1)] == [200, 421]


def test_a_browser_with_a_rebound_name_reads_nothing(start: Start) -> None:
    """A real browser, in which a stranger's name has come to lead to us, is refused."""
    port = start().addresses[0].rpartition(":")[2]
    with chromium("--host-resolver-rules=MAP stranger.example 127.0.0.1") as browser:
        page = browser.new_page()
        for host, status_ in (("stranger.example", 421), ("app.localhost", 200)):
            answer = page.goto(f"http://{host}:{port}/metrics")
            assert answer
            assert answer.status == status_
