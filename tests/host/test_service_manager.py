"""What a service manager receives, on a real socket."""

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from kepler_ebpf.host.service_manager import PERIOD_S, ServiceManager


@dataclass
class Manager:
    """A service manager, and the program's side of it on a clock that a test moves."""

    address: str
    socket: socket.socket
    now_s: float = 0.0

    def __post_init__(self) -> None:
        shown = self.address.replace("\0", "@")
        self.side = ServiceManager({"NOTIFY_SOCKET": shown}, lambda: self.now_s)

    def received(self) -> list[bytes]:
        """Return the messages that have come."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(100))
            except BlockingIOError:
                return messages


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Give a service manager that listens."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = "\0" + address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(address)
        made = Manager(address, listening)
        yield made
        made.side.close()


def test_manager_learns_that_the_program_works(manager: Manager) -> None:
    """It is ready once, and works again and again, but not at every tick."""
    for _ in range(3):
        manager.side.works()
    assert manager.received() == [b"READY=1\nWATCHDOG=1"]
    manager.now_s += PERIOD_S
    manager.side.works()
    assert manager.received() == [b"WATCHDOG=1"]


def test_full_socket_is_not_waited_for(manager: Manager) -> None:
    """A manager that does not read costs the program nothing."""
    for _ in range(10_000):
        manager.now_s += PERIOD_S
        manager.side.works()
    assert manager.received()[:2] == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/none"}])
def test_no_manager_is_no_fault(environment: dict[str, str]) -> None:
    """Without one, or where it is gone, nothing happens."""
    with closing(ServiceManager(environment)) as manager:
        manager.works()


def test_manager_that_starts_anew_is_found(tmp_path: Path) -> None:
    """Its socket is another one then, at the same address."""
    address, now_s = str(tmp_path / "notify"), [0.0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(address)
        side = ServiceManager({"NOTIFY_SOCKET": address}, lambda: now_s[0])
    Path(address).unlink()
    with closing(side), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as new:
        new.setblocking(False)
        new.bind(address)
        for now_s[0] in (PERIOD_S, 2 * PERIOD_S):
            side.works()
        assert new.recv(100) == b"READY=1\nWATCHDOG=1"
