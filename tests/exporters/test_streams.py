"""Streams of intervals, over real sockets: slow readers, many readers, and those who leave."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from api_servers import GIVE_UP_S, ApiServer, Stream, api_server, wait_until
from http_clients import PROBE, SCRAPE, ask, read_all
from snapshots import Row, process, snapshot

from kepler_ebpf.exporters.page import Page
from kepler_ebpf.exporters.places import MAX_OF_ONE_ADDRESS, MAX_STREAMS, MAX_STREAMS_OF_ONE_ADDRESS


@pytest.fixture
def served() -> Iterator[ApiServer]:
    """Serve one interval."""
    with api_server() as server:
        yield server


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what was opened."""
    with ExitStack() as stack:
        yield stack


def test_each_interval_is_one_event(served: ApiServer, opened: ExitStack) -> None:
    """The first event is what is known, then comes one for each interval, with its own id."""
    stream = opened.enter_context(closing(served.stream("level=pod")))
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["Cache-Control"] == "no-store"
    events = [stream.event()]
    for _ in range(3):
        served.publish()
        events.append(stream.event())
    assert events[0]["retry"] == "2000"
    assert len({event["id"] for event in events}) == 4
    assert all('"levels": {"pod": ' in event["data"] for event in events)


def test_an_event_is_what_a_snapshot_is(served: ApiServer, opened: ExitStack) -> None:
    """A stream and a snapshot of one query are the same value."""
    stream = opened.enter_context(closing(served.stream("level=process&top=1")))
    assert stream.figures() == served.json("snapshot?level=process&top=1")


def test_intervals_are_made_for_readers_alone(served: ApiServer) -> None:
    """While no stream is open, no interval is wanted; after the last has left, none again."""
    wanted = [served.publisher.has_subscribers]
    first, second = served.stream(), served.stream("level=vm")
    wanted.append(served.publisher.has_subscribers)
    first.close()
    second.close()
    assert wanted == [False, True]
    wait_until(lambda: not served.publisher.has_subscribers)


def test_a_slow_reader_skips_and_gets_the_number(served: ApiServer, opened: ExitStack) -> None:
    """Who does not read holds two events at most; then it gets what it missed as a number."""
    rows = [Row(process(pid)) for pid in range(1, 1001)]
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(served.address)
    connection.settimeout(20)
    slow = opened.enter_context(closing(Stream(connection, "top=1000")))
    quick = opened.enter_context(closing(served.stream("top=1")))
    published = 30
    quick.event()
    slow.event()  # what was known when it came, which a busy server may show it late
    for number in range(published):
        served.publish(snapshot(rows, at_s=2000.0 + number, end_s=100.0 + number))
        quick.event()
    seen: list[float] = []
    skipped = 0
    while not seen or seen[-1] < 2000.0 + published - 1:
        event = slow.event()
        if event.get("event") == "skipped":
            skipped += int(event["data"])
        elif "comment" not in event:
            seen.append(float(event["data"].partition('"at_s": ')[2].partition(",")[0]))
    assert skipped > 0
    assert len(seen) + skipped == published
    assert seen == sorted(set(seen))


def test_an_interval_that_cannot_be_shown_is_named(
    served: ApiServer, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault of ours the stream goes on, and its reader gets to know that one is missing."""
    stream = opened.enter_context(closing(served.stream()))
    stream.event()
    with monkeypatch.context() as patched:
        patched.setattr(type(served.api), "render", lambda *_: 1 / 0)
        served.publish()
        assert stream.event() == {"event": "skipped", "data": "1"}
    assert served.publish().at_s == stream.figures()["at_s"]


def test_an_interval_that_comes_while_a_page_is_made_is_named(
    served: ApiServer, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two intervals a page that is made late shows one, and the other is missing."""
    stream = opened.enter_context(closing(served.stream()))
    stream.event()
    wanted, may_go_on, render = threading.Event(), threading.Event(), type(served.api).render

    def late(*arguments: Any) -> Page:
        wanted.set()
        assert may_go_on.wait(GIVE_UP_S)
        return render(*arguments)

    monkeypatch.setattr(type(served.api), "render", late)
    served.publish()
    assert wanted.wait(GIVE_UP_S)
    served.publish()
    assert stream.event() == {"event": "skipped", "data": "1"}
    may_go_on.set()
    first = stream.event()
    assert served.publish().at_s == stream.figures()["at_s"]
    assert first["id"]


def test_slow_readers_of_different_streams_are_bounded(
    served: ApiServer, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of events that differ only so many are held; who reads keeps its stream."""
    rows = [Row(process(pid)) for pid in range(1, 1001)]
    monkeypatch.setattr("kepler_ebpf.exporters.server.MAX_ANSWER_BYTES", 1 << 20)
    quick, slow = opened.enter_context(closing(served.stream("top=1"))), []
    for number in range(MAX_STREAMS_OF_ONE_ADDRESS - 1):
        slow.append(opened.enter_context(socket.socket()))
        slow[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow[-1].connect(served.address)
        slow[-1].settimeout(GIVE_UP_S)
        query = f"level=process&top={1000 - number}"
        slow[-1].sendall(f"GET /api/v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert slow[-1].recv(1)
    quick.event()
    for number in range(5):
        served.publish(snapshot(rows, at_s=2000.0 + number, end_s=100.0 + number))
        assert quick.event()["data"]
    assert any_ends(slow)
    served.publish()
    assert quick.event()["data"]


def any_ends(readers: list[socket.socket]) -> bool:
    """Read what there is until one of the streams ends; False where they all go on."""
    give_up_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_s:
        for reader in select.select(readers, [], [], 1.0)[0]:
            try:
                if not reader.recv(1 << 16):
                    return True
            except ConnectionResetError:
                return True
    return False


def test_streams_take_no_place_of_probes(served: ApiServer, opened: ExitStack) -> None:
    """An address opens so many streams; one more is refused, and who probes and scrapes is not."""
    for _ in range(MAX_STREAMS_OF_ONE_ADDRESS):
        assert opened.enter_context(closing(served.stream())).status == 200
    refused = opened.enter_context(closing(served.stream()))
    assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    assert ask(served.address, PROBE).startswith(b"HTTP/1.1 200")
    assert ask(served.address, SCRAPE).startswith(b"HTTP/1.1 200")
    others = MAX_STREAMS - MAX_STREAMS_OF_ONE_ADDRESS
    for _ in range(others):
        stream = opened.enter_context(closing(served.stream(source="127.0.1.1")))
        assert stream.status == 200
    assert opened.enter_context(closing(served.stream(source="127.0.1.2"))).status == 503


def test_streams_outlive_a_flood_of_clients(served: ApiServer, opened: ExitStack) -> None:
    """Connections of the same address beyond its places push out each other, and no stream."""
    stream = opened.enter_context(closing(served.stream("level=vm")))
    stream.event()
    for _ in range(2 * MAX_OF_ONE_ADDRESS):
        opened.enter_context(socket.create_connection(served.address))
    assert ask(served.address, PROBE).startswith(b"HTTP/1.1 200")
    served.publish()
    assert stream.event()["data"]


def test_who_leaves_gives_the_place_back(served: ApiServer) -> None:
    """The place of a reader that has gone is free, though no event was written to it since."""
    for _ in range(3 * MAX_STREAMS_OF_ONE_ADDRESS):
        stream = served.stream()
        assert stream.status == 200
        stream.close()
        wait_until(lambda: not served.publisher.has_subscribers)


def test_a_reader_that_sends_is_cut(served: ApiServer, opened: ExitStack) -> None:
    """A stream has nothing for us to read: who sends without an end does not keep us busy."""
    talking = opened.enter_context(closing(served.stream()))
    quiet = opened.enter_context(closing(served.stream()))
    with pytest.raises(ConnectionError):
        talking.connection.sendall(bytes(1 << 25))
    quiet.event()
    served.publish()
    assert quiet.event()["data"]


def test_silence_is_broken_by_comments(
    served: ApiServer, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where intervals are long, a comment keeps the connection alive."""
    monkeypatch.setattr("kepler_ebpf.exporters.connection.HEARTBEAT_S", 0.05)
    stream = opened.enter_context(closing(served.stream("level=vm")))
    assert stream.event()["data"]
    assert [stream.event(), stream.event()] == [{"comment": ""}] * 2
    served.publish()
    while not (event := stream.event()).get("data"):
        assert event == {"comment": ""}


def test_a_stream_ends_after_a_while(
    served: ApiServer, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as HTTP wants, so that the reader comes again and is let in again, or not."""
    monkeypatch.setattr("kepler_ebpf.exporters.connection.STREAM_S", 0.1)
    stream = opened.enter_context(closing(served.stream("level=vm")))
    events = []
    while event := stream.event():
        events.append(event)
    assert events[0]["data"]
    # http.client takes an end without the last chunk for an error.
    assert stream.connection.recv(1) == b""


def test_old_and_asking_clients(served: ApiServer) -> None:
    """HTTP/1.0 gets events without chunks; HEAD gets the headers and the end."""
    with socket.create_connection(served.address, 20) as old:
        old.sendall(b"GET /api/v1/stream?level=vm HTTP/1.0\r\n\r\n")
        head, _, rest = old.recv(65536).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert (rest or old.recv(65536)).startswith(b"retry: 2000\nid: ")
    status, headers, body = served.fetch("/api/v1/stream", "HEAD")
    assert (status, headers["Content-Type"][:17], body) == (200, "text/event-stream", b"")
    assert not served.publisher.has_subscribers


def test_closing_ends_streams() -> None:
    """A server that is closed ends its streams and wants no more intervals."""
    with api_server() as served:
        stream = served.stream("level=vm")
        stream.event()
    with closing(stream):
        # What is left of the last chunk, and then the end; else this would wait for ever.
        assert read_all(stream.connection) in {b"", b"\r\n", b"\n"}
