"""Clients on the network who want no page: what they cost, and whom they keep out."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from http_clients import (
    PROBE,
    SCRAPE,
    Address,
    address_of,
    ask,
    dial,
    mark_memory,
    read_all,
    reset,
    resident_bytes,
    trickling,
)
from limits import soft_limit
from running import GIVE_UP_S, Run, running

QUICK = ("--interval", "100ms", "--meter", "fake")
MB = 1024 * 1024

TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the program for every test that only sends something."""
    with running(tmp_path_factory.mktemp("run"), *QUICK) as run:
        run.scrape()
        yield run


@pytest.fixture
def address(run: Run) -> Address:
    """Return where it listens."""
    return address_of(run.address)


def files(run: Run) -> int:
    """Return how many file descriptors it has open."""
    return len(list(Path(f"/proc/{run.process.pid}/fd").iterdir()))


def threads(run: Run) -> int:
    """Return how many threads it has."""
    return len(list(Path(f"/proc/{run.process.pid}/task").iterdir()))


def wait_until_files(run: Run, count: int) -> None:
    """Wait until it has no more open descriptors than *count*."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while files(run) > count:
        assert time.monotonic() < give_up_at, f"{files(run)} open files, there were {count}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "headers",
    [20 * (b"X: " + 65_000 * b"a" + b"\r\n"), b"X: " + 10 * MB * b"a" + b"\r\n"],
    ids=["20 of 64 kB", "one of 10 MB"],
)
def test_large_headers_cost_no_memory(headers: bytes, run: Run, address: Address) -> None:
    """32 clients with headers of more than a MB each get status 431, and cost less than 30 MB."""
    sent = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + headers
    before = mark_memory(run.process.pid)
    answers = []
    clients = [
        threading.Thread(target=lambda: answers.append(ask(address, sent + b"\r\n")))
        for _ in range(32)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert resident_bytes(run.process.pid, "VmHWM") - before < 30 * MB
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {
        b"HTTP/1.1 431 Request Header Fields Too Large"
    }


@pytest.mark.parametrize("addresses", [1, 50])
@pytest.mark.parametrize("clients", [32, 300])
def test_slow_clients_keep_nobody_out(clients: int, addresses: int, address: Address) -> None:
    """Beside clients of one byte each half second, every probe and every scrape is answered."""
    sources = [f"127.0.2.{number % addresses + 1}" for number in range(clients)]
    if addresses == 1:  # the same that the probes come from
        sources = ["127.0.0.1"] * clients
    answers: list[bytes] = []
    with trickling(address, sources):
        for _ in range(20):
            time.sleep(0.1)  # the clients send, are cut and come again
            answers += [ask(address, request)[:12] for request in (PROBE, SCRAPE)]
    assert set(answers) == {b"HTTP/1.1 200"}


def test_trickled_head_is_cut(address: Address) -> None:
    """A client that sends a little all the time has some seconds for all of it."""
    with dial(address) as connection:
        connection.settimeout(0.2)
        began_s = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() < began_s + 10:
            try:
                connection.sendall(b"X")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("it was not cut in 10 s")


def test_rude_clients_leave_nothing(run: Run, address: Address) -> None:
    """Resets, half-closed connections, garbage and clients that leave: no file, no thread stays."""
    ask(address)
    open_files, running_threads = files(run), threads(run)
    before = resident_bytes(run.process.pid)
    for number in range(2_000):
        connection = dial(address)
        connection.sendall((SCRAPE, PROBE, TLS_HELLO, b"\r\n\r\n", b"GET", b"")[number % 6])
        if number % 4 == 0:
            with suppress(OSError):  # The server may have closed.
                connection.shutdown(socket.SHUT_WR)
            read_all(connection)
        if number % 3 == 0:
            reset(connection)
        connection.close()
    wait_until_files(run, open_files)
    give_up_s = time.monotonic() + GIVE_UP_S
    while threads(run) > running_threads:  # a reader of names may run now
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    assert resident_bytes(run.process.pid) - before < 10 * MB
    assert ask(address).startswith(b"HTTP/1.1 200")


def test_without_free_file_descriptors_clients_wait(run: Run, address: Address) -> None:
    """When no descriptor is left for a client, a silent one makes room, and nothing spins."""
    ask(address)
    pid = run.process.pid
    with soft_limit(pid, "nofile", files(run) + 2), ExitStack() as held:
        for _ in range(5):
            held.enter_context(dial(address))
        assert ask(address).startswith(b"HTTP/1.1 200")
    with ExitStack() as stack:
        with soft_limit(pid, "nofile", 3):
            waiting = stack.enter_context(dial(address))
            waiting.sendall(PROBE)
            time.sleep(0.2)
            woken = wake_ups(pid)
            time.sleep(1)
            assert wake_ups(pid) - woken < 200  # the loop's own are ten intervals
        assert read_all(waiting).startswith(b"HTTP/1.1 200")


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have woken from a wait so far."""
    statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    name = "\nvoluntary_ctxt_switches:"
    return sum(int(status.partition(name)[2].split()[0]) for status in statuses)
