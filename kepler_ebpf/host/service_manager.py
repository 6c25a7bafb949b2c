"""What the service manager that started this program wants and gives, if it is systemd."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress

from kepler_ebpf.errors import SetupError

PERIOD_S = 5.0
"""It is told that the program works no more often than this."""

FIRST_PASSED = 3
PASSED = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ServiceManager:
    """Sends READY=1 once and WATCHDOG=1 again and again, to the socket in NOTIFY_SOCKET.

    It connects at once: later the program may not have the right any more.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._due_s = -math.inf
        address = environment.get("NOTIFY_SOCKET", "")
        # The name of an abstract socket begins with NUL, which no environment can hold.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._message = b"READY=1\nWATCHDOG=1"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._connect()

    def works(self) -> None:
        """Say that the program works. Costs nothing where nobody wants to know."""
        if not self._address or self._clock() < self._due_s:
            return
        self._due_s = self._clock() + PERIOD_S
        try:
            self._socket.send(self._message)
            self._message = b"WATCHDOG=1"
        except BlockingIOError:
            pass
        except OSError:  # It may have started anew.
            self._connect()

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def _connect(self) -> None:
        with suppress(OSError):
            self._socket.connect(self._address)


def passed_sockets(
    environment: MutableMapping[str, str] = os.environ,
) -> list[tuple[str, socket.socket]]:
    """Take the listening sockets that systemd has opened for this process, with their names.

    Raises SetupError where there are none, or one is no stream socket that listens.
    """
    pid, count, names = (environment.pop(name, "") for name in PASSED)
    if pid != str(os.getpid()) or not count.isdecimal() or not int(count):
        problem = "systemd has passed no socket to this process"
        raise SetupError(problem, "start kepler-ebpf.socket, or leave out --web.systemd-socket")
    named, passed = [*names.split(":"), *[""] * int(count)], []
    for name, number in zip(named, range(FIRST_PASSED, FIRST_PASSED + int(count)), strict=False):
        try:
            listener = socket.socket(fileno=number)
            listener.set_inheritable(False)
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or listener.type != socket.SOCK_STREAM:
            what = f"descriptor {number} ({name})" if name else f"descriptor {number}"
            problem = f"{what} that systemd has passed is no stream socket that listens"
            raise SetupError(problem, "give each socket unit a ListenStream=, and Accept=no")
        passed.append((name, listener))
    return passed
