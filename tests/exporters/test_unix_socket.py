"""The HTTP server on unix sockets: the file, and who has a place."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from http_clients import PROBE, read_all
from snapshots import HOST, snapshot

from kepler_ebpf.errors import SetupError
from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.listen import dial
from kepler_ebpf.exporters.places import MAX_OF_ONE_ADDRESS
from kepler_ebpf.exporters.prometheus import MetricsPage

Start = Callable[[Path], Server]
NOBODY = 65534
HOLD = """
import os, socket, sys
held = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for each in held:
    each.connect(sys.argv[1])
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def start() -> Iterator[Start]:
    """Serve on paths; all are closed in the end."""
    with ExitStack() as stack:

        def start_one(path: Path) -> Server:
            page = MetricsPage(HOST)
            service = Service(page, snapshot, time.monotonic, 1.0, refresh=lambda: None)
            server = Server([f"unix:{path}"], service)
            stack.callback(server.close)
            return server

        yield start_one


def ask(path: Path) -> bytes:
    """Return the answer to a probe at *path*."""
    with dial(f"unix:{path}", 10) as connection:
        connection.sendall(PROBE)
        return read_all(connection)


@contextmanager
def held_by_nobody(path: Path, count: int) -> Iterator[None]:
    """Have another user hold *count* connections to *path*."""
    arguments = [sys.executable, "-c", HOLD, str(path), str(count)]
    with subprocess.Popen(
        arguments, user=NOBODY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"connected\n"
        yield


def test_socket_is_the_user_s_and_goes_with_the_server(folder: Path, start: Start) -> None:
    """User and group may connect, others may not; after close the path is free."""
    path = folder / "metrics.sock"
    server = start(path)
    assert server.addresses == (f"unix:{path}",)
    assert b"200 OK" in ask(path)
    assert path.stat().st_mode & 0o777 == 0o660
    server.close()
    assert list(folder.iterdir()) == []


def test_dead_socket_is_replaced(folder: Path, start: Start) -> None:
    """A socket that a killed program has left is no obstacle."""
    path = folder / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    start(path)
    assert b"200 OK" in ask(path)


def test_living_socket_and_other_files_stay(folder: Path, start: Start) -> None:
    """What somebody uses is a setup error, and is not touched."""
    path, file = folder / "metrics.sock", folder / "file"
    start(path)
    file.write_text("kept")
    for taken in (path, file):
        with pytest.raises(SetupError) as raised:
            start(taken)
        problem, remedy = str(raised.value).splitlines()
        assert problem == f"cannot listen on unix:{taken}: Address already in use"
        assert "name a path that is free" in remedy
    assert b"200 OK" in ask(path)
    assert file.read_text() == "kept"


def test_path_that_cannot_be_made_is_a_setup_error(folder: Path, start: Start) -> None:
    """A folder that does not exist is told."""
    with pytest.raises(SetupError, match="No such file or directory"):
        start(folder / "none" / "metrics.sock")


def test_socket_of_a_successor_stays(folder: Path, start: Start) -> None:
    """A program that ends late does not remove the socket of the one after it."""
    path = folder / "metrics.sock"
    server = start(path)
    path.unlink()
    start(path)
    server.close()
    assert b"200 OK" in ask(path)


def test_users_have_places_of_their_own(folder: Path, start: Start) -> None:
    """A user who takes all of its places takes none of another's."""
    path = folder / "metrics.sock"
    start(path)
    path.chmod(0o666)
    with dial(f"unix:{path}", 10) as mine, held_by_nobody(path, 2 * MAX_OF_ONE_ADDRESS):
        mine.sendall(PROBE)
        assert b"200 OK" in read_all(mine)
    with ExitStack() as stack:
        first = stack.enter_context(dial(f"unix:{path}", 10))
        for _ in range(MAX_OF_ONE_ADDRESS):
            stack.enter_context(dial(f"unix:{path}", 10))
        assert read_all(first) == b""
