"""What clients can do to the server."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bed import Bed
from fault import fault
from running import GIVE_UP_S

MANY = 100


def connect(bed: Bed) -> socket.socket:
    """Return a connection to the program."""
    host, _, port = bed.run.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=GIVE_UP_S)


def reset(client: socket.socket) -> None:
    """Close a connection by a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@fault("rapl", "it serves on")
def port_is_scanned(bed: Bed) -> Iterator[None]:
    """Its port is scanned: 300 connections that are reset at once."""
    for _ in range(300):
        reset(connect(bed))
    yield


@fault("rapl", "some are refused or cut; intervals go on", serves=False)
def connections_are_held(bed: Bed) -> Iterator[None]:
    """100 connections that send one byte each and stay."""
    with ExitStack() as stack:
        for _ in range(MANY):
            client = stack.enter_context(connect(bed))
            with contextlib.suppress(OSError):
                client.send(b"G")
        yield


@fault("rapl", "they are cut", serves=False)
def readers_do_not_read(bed: Bed) -> Iterator[None]:
    """100 readers ask for the page and do not read it."""
    with ExitStack() as stack:
        for _ in range(MANY):
            client = stack.enter_context(connect(bed))
            with contextlib.suppress(OSError):
                client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        yield


@fault("rapl", "they are refused", serves=False)
def headers_are_huge(bed: Bed) -> Iterator[None]:
    """Requests of 200 headers of 60 kB."""
    for _ in range(4):
        with connect(bed) as client, contextlib.suppress(OSError):
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
            for number in range(200):
                client.sendall(b"X-%d: " % number + b"x" * 60_000 + b"\r\n")
            client.sendall(b"\r\n")
            while client.recv(65536):
                pass
    yield


GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"GET\r\n\r\n",
    b"\r\n" * 5_000,
    b"POST /metrics HTTP/1.1\r\nContent-Length: -1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /%00%ff?name[]=" + b"&" * 60_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\nAccept: " + b"," * 60_000 + b"\r\n\r\n",
    bytes(100_000),
)


@fault("rapl", "an error, or a page")
def requests_are_garbage(bed: Bed) -> Iterator[None]:
    """TLS, zeros, smuggled bodies, a query of 60,000 parts."""
    for data in GARBAGE:
        with connect(bed) as client, contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    yield


@fault("rapl", "one page for each; intervals go on")
def scrapes_never_pause(bed: Bed) -> Iterator[None]:
    """Scrapes without a pause from one client."""
    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        bed.probe("metrics")
    yield
