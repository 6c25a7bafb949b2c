"""Messages to the service manager that started this program, where it wants any: systemd's."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

PERIOD_S = 5.0
"""It is told that the program works no more often than this."""


class ServiceManager:
    """Sends READY=1 once and WATCHDOG=1 again and again, to the socket in NOTIFY_SOCKET."""

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

    def works(self) -> None:
        """Say that the program works. Costs nothing where nobody wants to know."""
        if not self._address or self._clock() < self._due_s:
            return
        self._due_s = self._clock() + PERIOD_S
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(self._message, self._address)
            self._message = b"WATCHDOG=1"
