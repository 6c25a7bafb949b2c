"""Who is let in: everybody, or whom a web configuration names (``guard.py``)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from kepler_ebpf.exporters.connection import Request
from kepler_ebpf.exporters.web_config import WebReload


class Access(Protocol):
    """Who is let in."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What is on every answer."""

    @property
    def last_reload(self) -> WebReload | None:
        """How reading a configuration went; None where there is none."""

    def wrap(self, client: socket.socket, /) -> socket.socket:
        """Return the socket to use for a new client; does not wait."""

    def take(self, now_s: float, /) -> float:
        """Count a request; return 0, or the seconds until the rate limit allows one again."""

    def admit(self, request: Request, decide: Callable[[bool], None], /) -> None:
        """Call *decide* with whether the client may see the page, now or in another thread."""

    def reload(self, *_: object) -> None:
        """Read anew who is let in. Safe in a signal handler."""

    def close(self) -> None:
        """Decide nothing more."""


class OpenAccess:
    """Lets everybody in, without TLS."""

    headers: Mapping[str, str] = MappingProxyType({})
    last_reload = None

    def wrap(self, client: socket.socket) -> socket.socket:
        """Return *client* itself."""
        return client

    def take(self, _: float) -> float:
        """Return 0: there is no limit."""
        return 0.0

    def admit(self, _: Request, decide: Callable[[bool], None]) -> None:
        """Let the client in."""
        decide(True)

    def reload(self, *_: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
