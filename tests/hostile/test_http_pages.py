"""Clients on the network who want pages: what many of them cost."""

import gc
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from http_clients import (
    SCRAPE,
    Address,
    address_of,
    ask,
    dial,
    mark_memory,
    read_all,
    resident_bytes,
    send_all_and_end,
    wait_for_bytes,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshots import HOST, Row, process, snapshot

from kepler_ebpf.exporters.accept import MAX_CHARS, accepted
from kepler_ebpf.exporters.http import MAX_NAMES, Server, Service
from kepler_ebpf.exporters.page import Page, Variant
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.shared_pages import MAX_WANTED, SharedPages
from kepler_ebpf.model.snapshot import Snapshot

GZIPPED = SCRAPE.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n")
OPENMETRICS = SCRAPE.replace(b"\r\n\r\n", b"\r\nAccept: application/openmetrics-text\r\n\r\n")


class Body(bytearray):
    """A page's text; it can be referred to weakly, which a bytearray cannot."""


class CountingPage(MetricsPage):
    """A metrics page that counts how often it was rendered, and what is still in memory."""

    def __init__(self) -> None:
        super().__init__(HOST)
        self.variants: list[Variant] = []
        self._bodies: list[weakref.ref[Body]] = []

    def render(self, snapshot: Snapshot | None, variant: Variant) -> Page:
        self.variants.append(variant)
        page = super().render(snapshot, variant)
        body = Body(page.body)
        self._bodies.append(weakref.ref(body))
        return page._replace(body=body)

    @property
    def rendered(self) -> int:
        """How often a page was rendered."""
        return len(self.variants)

    @property
    def held(self) -> int:
        """How many of the rendered pages are in memory."""
        return sum(body() is not None for body in self._bodies)


Serve = Callable[..., tuple[Address, CountingPage]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve what ``latest`` returns, on loopback; the server is closed in the end."""
    with ExitStack() as stack:

        def start(
            latest: Callable[[], Snapshot], refresh: Callable[[], None] = lambda: None
        ) -> tuple[Address, CountingPage]:
            page = CountingPage()
            server = Server(["127.0.0.1:0"], Service(page, latest, time.monotonic, 1.0, refresh))
            stack.callback(server.close)
            return address_of(server.addresses[0]), page

        yield start


def large(processes: int = 20_000) -> Snapshot:
    """Return a snapshot whose page has some 15 MB."""
    return snapshot([Row(process(pid)) for pid in range(processes)])


def no_reader(address: Address, number: int, request: bytes = SCRAPE) -> socket.socket:
    """Return a connection that requests a page and does not read it."""
    connection = dial(address, f"127.0.3.{number % 100 + 1}")
    connection.sendall(request)
    return connection


def test_readers_that_do_not_read_share_one_page(serve: Serve) -> None:
    """32 clients that do not read a page of 15 MB have one in memory, and not one each."""
    shown = large()
    address, page = serve(lambda: shown)
    began_s = time.monotonic()
    length = len(ask(address, SCRAPE))
    assert length > 10_000_000
    before = mark_memory(os.getpid())
    with ExitStack() as held:
        readers = [held.enter_context(no_reader(address, number)) for number in range(32)]
        for reader in readers:
            wait_for_bytes(reader)
        # A page is shared for a second, and a busy host may need longer for all to come.
        assert page.held <= 1 + (time.monotonic() - began_s)
        # While a page is made there is a second one: CountingPage takes a copy.
        assert resident_bytes(os.getpid(), "VmHWM") - before < (2 + page.held) * length


def test_slow_readers_of_different_pages_are_bounded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pages that differ only so many are held: the slowest readers lose theirs."""
    address, _ = serve(lambda: large(5_000))
    length = len(ask(address, SCRAPE))
    monkeypatch.setattr("kepler_ebpf.exporters.server.MAX_ANSWER_BYTES", 3 * length)
    with ExitStack() as held:
        readers = [held.enter_context(no_reader(address, 0))]
        before = mark_memory(os.getpid())
        for number in range(16):
            readers.append(held.enter_context(no_reader(address, number)))
            wait_for_bytes(readers[-1])
        # Beside the bodies there are the page that is rendered, and the snapshots themselves.
        assert resident_bytes(os.getpid(), "VmHWM") - before < 8 * length
        assert len(ask(address, SCRAPE)) > 0.9 * length
        assert len(read_all(readers[0])) < 0.9 * length


def test_a_flood_renders_a_snapshot_once(serve: Serve) -> None:
    """All who scrape one snapshot in one format get the same page, made once."""
    shown = snapshot()
    address, page = serve(lambda: shown)
    began_s = time.monotonic()
    answers = {ask(address, SCRAPE).partition(b"\r\n\r\n")[2] for _ in range(50)}
    seconds = time.monotonic() - began_s
    assert page.rendered <= 1 + seconds  # none is kept for longer than a second
    assert len(answers) == page.rendered
    rendered = page.rendered
    for request in (GZIPPED, OPENMETRICS, GZIPPED, OPENMETRICS):
        assert ask(address, request).startswith(b"HTTP/1.1 200")
    assert page.rendered <= rendered + 4


def test_different_pages_take_half_of_a_cpu_at_most() -> None:
    """After a page of some names the thread pauses; who wants a whole page does not wait for it."""
    took_s, order, may_begin = 0.02, list[Variant](), threading.Event()

    def render(_: Snapshot | None, variant: Variant) -> Page:
        may_begin.wait(60)
        end_s = time.thread_time() + took_s
        while time.thread_time() < end_s:
            pass
        order.append(variant)
        return Page("text/plain", bytearray())

    pages = SharedPages(render, snapshot, lambda: None)
    made, whole = threading.Semaphore(0), Variant()
    began_s = time.monotonic()
    for number in range(MAX_WANTED):
        pages.request(Variant(names=frozenset({str(number)})), lambda _: made.release())
    pages.request(whole, lambda _: made.release())
    may_begin.set()
    for _ in range(MAX_WANTED + 1):
        assert made.acquire(timeout=60)
    pages.close()
    assert time.monotonic() - began_s > 2 * took_s * (MAX_WANTED - 1)
    assert order.index(whole) <= 1


def test_a_page_is_not_held_between_scrapes(serve: Serve) -> None:
    """A while after the last reader has gone, nothing of the page is left in memory."""
    address, page = serve(snapshot)
    ask(address, SCRAPE)
    assert page.rendered == 1
    give_up_s = time.monotonic() + 30
    while page.held:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_next_snapshot_is_rendered_anew(serve: Serve) -> None:
    """Who comes after a new snapshot does not get the page of an older one."""
    shown = [snapshot()]
    address, page = serve(lambda: shown[0])
    for processes in (1, 2, 3):
        shown[0] = snapshot([Row(process(pid)) for pid in range(processes)])
        answer = ask(address, SCRAPE)
        assert answer.count(b"\nkepler_process_cpu_seconds_total{") == processes
    assert page.rendered == 3


def test_accept_is_read_with_a_bound(serve: Serve) -> None:
    """A header of many commas is no more work than its first kB; one of 64 kB is refused."""
    assert len(accepted("," * 65_536)) <= MAX_CHARS + 1
    address, page = serve(snapshot)
    for size, status in ((15_000, b"200"), (65_536, b"431")):
        header = b"\r\nAccept: " + b",a" * (size // 2) + b"\r\n\r\n"
        answer = ask(address, SCRAPE.replace(b"\r\n\r\n", header))
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert page.rendered == 1


def test_names_are_bounded(serve: Serve) -> None:
    """A query of more names than there is a use for is refused."""
    address, page = serve(snapshot)
    for count, status in ((MAX_NAMES, b"200"), (MAX_NAMES + 1, b"400")):
        query = b"&".join([b"name[]=kepler_build_info"] * count)
        answer = ask(address, SCRAPE.replace(b"/metrics", b"/metrics?" + query))
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert page.rendered == 1


def test_probes_do_not_wait_for_a_page(serve: Serve) -> None:
    """While a scrape waits for its snapshot, probes are answered; then the scrape is."""
    wanted, may_go_on = threading.Event(), threading.Event()

    def refresh() -> None:
        wanted.set()
        may_go_on.wait(30)

    address, page = serve(snapshot, refresh)
    with ExitStack() as held:
        readers = [held.enter_context(no_reader(address, number)) for number in range(40)]
        assert wanted.wait(30)
        assert ask(address).startswith(b"HTTP/1.1 200")
        may_go_on.set()
        for reader in readers:
            wait_for_bytes(reader)
    assert page.rendered <= 2


def test_pages_of_many_names_keep_no_scrape_waiting(serve: Serve) -> None:
    """Of a flood of pages that all differ few are made, and the whole page comes before them."""
    wanted, may_go_on = threading.Event(), threading.Event()

    def refresh() -> None:
        wanted.set()
        may_go_on.wait(30)

    address, page = serve(snapshot, refresh)
    with ExitStack() as held:
        held.enter_context(no_reader(address, 0))
        assert wanted.wait(30)
        for number in range(60):
            request = SCRAPE.replace(b"/metrics", b"/metrics?name[]=n%d" % number)
            held.enter_context(no_reader(address, number, request))
        ask(address)
        scraper = held.enter_context(no_reader(address, 1, OPENMETRICS))
        ask(address)
        may_go_on.set()
        wait_for_bytes(scraper)
        assert page.variants[1] == Variant(is_openmetrics=True)
    assert page.rendered <= 2 + MAX_WANTED


def test_close_waits_for_the_refresh() -> None:
    """Nothing is requested of the loop after close: its parts are taken down next."""
    entered, ended = threading.Event(), []

    def refresh() -> None:
        entered.set()
        time.sleep(0.3)
        ended.append(True)

    service = Service(MetricsPage(HOST), snapshot, time.monotonic, 1.0, refresh)
    server = Server(["127.0.0.1:0"], service)
    address = address_of(server.addresses[0])
    with no_reader(address, 1), no_reader(address, 2, GZIPPED):
        assert entered.wait(30)
        server.close()
        refreshed = len(ended)
        assert refreshed >= 1
        time.sleep(0.5)
        assert len(ended) == refreshed


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"GET /metrics", b"HEAD /", b"POST /x", b"\x16\x03", b""]),
    st.binary(max_size=300),
    st.sampled_from([b" HTTP/1.1\r\nHost: localhost\r\n", b" HTTP/1.0\r\n", b"\n", b""]),
    st.binary(max_size=300),
)
def test_any_bytes_get_one_answer_at_most(
    endless: tuple[Address, pytest.LogCaptureFixture],
    begin: bytes,
    middle: bytes,
    line_end: bytes,
    end: bytes,
) -> None:
    """Whatever is sent, a client gets one answer or none, and nothing is logged as a fault."""
    address, caplog = endless
    answer = send_all_and_end(address, begin + middle + line_end + end + b"\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"\r\nServer: kepler-ebpf\r\n") <= 1
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.fixture
def endless(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> tuple[Address, pytest.LogCaptureFixture]:
    """Return one server for all examples of a test, and what it logs."""
    shown = snapshot()
    return serve(lambda: shown)[0], caplog


def test_no_request_leaves_garbage(serve: Serve) -> None:
    """What a request needed is free when it ends: the search for cycles is off in a run."""
    address, _ = serve(snapshot)
    requests = (
        SCRAPE,
        b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 20_000,
    )
    for request in requests:
        ask(address, request)
    gc.collect()
    gc.disable()
    try:
        for number in range(100):
            ask(address, requests[number % len(requests)])
        assert gc.collect() < 100
    finally:
        gc.enable()
