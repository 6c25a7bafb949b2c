"""`kepler-ebpf run` on unix sockets, and on sockets that it gets from systemd."""

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from http_clients import ask, read_all
from running import ANY_PORT, COMMAND, GIVE_UP_S, refused, running

from kepler_ebpf.exporters.listen import dial

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
PASSED = ("--web.systemd-socket", "--meter", "fake")
HAND_OVER = 'exec 3<&"$1"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a short name: paths of sockets are short."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def scraped(path: Path) -> bytes:
    """Return the page that is served at *path*, once there is a socket."""
    give_up_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_s:
        with suppress(OSError), dial(f"unix:{path}", GIVE_UP_S) as connection:
            connection.sendall(SCRAPE)
            return read_all(connection)
        time.sleep(0.01)
    raise AssertionError(f"nobody listens at {path}")


def test_unix_socket_beside_a_port(folder: Path, tmp_path: Path) -> None:
    """Both show the page; the socket is gone when a run with the right to remove it has ended."""
    path = folder / "metrics.sock"
    place = ("--web.listen-address", f"unix:{path}", *ANY_PORT)
    with running(tmp_path, "--meter", "fake", "--keep-privileges", place=place) as run:
        assert f"unix:{path}, 127.0.0.1:" in run.started_line
        assert b"kepler_build_info" in scraped(path)
        assert run.end() == 0
    assert not path.exists()


def test_systemd_hands_its_socket_over(folder: Path, tmp_path: Path) -> None:
    """The client that had systemd start us gets the page, and the socket stays systemd's."""
    path = folder / "metrics.sock"
    pages: list[bytes] = []
    client = threading.Thread(target=lambda: pages.append(scraped(path)))
    client.start()
    activator = ("systemd-socket-activate", "--listen", str(path))
    with running(tmp_path, *PASSED, place=(), wrapper=activator) as run:
        assert run.address == f"unix:{path}"
        client.join()
        assert b"kepler_build_info" in pages[0]
        assert b"kepler_build_info" in scraped(path)
        assert run.end() == 0
    assert path.is_socket()


def test_clients_wait_through_a_restart() -> None:
    """While systemd holds the socket, who connects between two runs is served by the second."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = held.getsockname()[:2]
        wrapper = ("bash", "-c", HAND_OVER, "bash", str(held.fileno()))
        held.set_inheritable(True)
        arguments = [*wrapper, *COMMAND, *PASSED]
        for _ in range(2):
            with subprocess.Popen(arguments, pass_fds=(held.fileno(),)) as process:
                page = ask(address, SCRAPE)
                process.terminate()
            assert b"kepler_build_info" in page


@pytest.mark.parametrize("kind", ["none", "datagram"])
def test_wrong_hand_over_is_told(kind: str) -> None:
    """No socket, or one of another kind, is named with what to do."""
    if kind == "none":
        done = refused("--web.systemd-socket")
        problem = "systemd has passed no socket to this process"
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
            arguments = ["bash", "-c", HAND_OVER, "bash", str(held.fileno()), *COMMAND, *PASSED]
            done = subprocess.run(
                arguments,
                pass_fds=(held.fileno(),),
                capture_output=True,
                text=True,
                timeout=GIVE_UP_S,
                check=False,
            )
        problem = "descriptor 3 that systemd has passed is no stream socket that listens"
    assert done.returncode == 3
    assert problem in done.stderr
    assert "hint: " in done.stderr
