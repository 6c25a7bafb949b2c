"""Clients that a server meets in the open: slow, rude and many."""

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

Address = tuple[str, int]


def address_of(text: str) -> Address:
    """Return ``HOST:PORT`` as a socket address."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def dial(address: Address, source: str = "") -> socket.socket:
    """Return a connection to *address*, from *source* if that is given."""
    return socket.create_connection(address, 10, (source, 0) if source else None)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes, by whatever means."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def ask(address: Address, request: bytes = PROBE) -> bytes:
    """Send *request* on a connection of its own and return what comes back."""
    with dial(address) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return read_all(connection)


def send_all_and_end(address: Address, sent: bytes) -> bytes:
    """Send *sent* and no more, to a server that may close before, and return what comes back."""
    with dial(address) as connection:
        with suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def reset(connection: socket.socket) -> None:
    """Close at once, without the usual goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def trickling(address: Address, sources: Sequence[str]) -> Iterator[None]:
    """Have a client at each of *sources* send a byte each half second, and dial anew when cut."""
    stop = threading.Event()
    thread = threading.Thread(target=_trickle, args=(address, sources, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _trickle(address: Address, sources: Sequence[str], stop: threading.Event) -> None:
    held = [dial(address, source) for source in sources]
    while not stop.wait(0.5):
        for number, connection in enumerate(held):
            try:
                connection.setblocking(False)
                connection.send(b"A")
                if connection.recv(1) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                connection.close()
                held[number] = dial(address, sources[number])
    for connection in held:
        connection.close()


def resident_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return the resident memory of a process, or with ``VmHWM`` the most since the mark."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition(f"\n{field}:")[2].split()[0]) * 1024


def mark_memory(pid: int) -> int:
    """Begin to measure the most resident memory anew, and return what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")
    return resident_bytes(pid)


def wait_for_bytes(connection: socket.socket) -> None:
    """Wait until something has come that can be read."""
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        with suppress(BlockingIOError):
            connection.setblocking(False)
            if connection.recv(1, socket.MSG_PEEK):
                return
        time.sleep(0.01)
    raise AssertionError("nothing came in 30 s")
