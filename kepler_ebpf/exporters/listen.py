"""Listen addresses: their text form, and sockets bound to them."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_address

from kepler_ebpf.errors import ConfigError, SetupError

MAX_PORT = 65535
BACKLOG = 1024
"""A burst of clients is accepted at once; those beyond would wait a second for their next try."""

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[\w.-]*)):(?P<port>\d{1,5})", re.ASCII)

ADDRESS_REMEDY = f"write :PORT, HOST:PORT or [IPV6]:PORT with a port from 0 to {MAX_PORT}"

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there or choose another port",
    errno.EACCES: "choose a port above 1023 or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "choose an address that one of this host's interfaces has",
}


def parse_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (all interfaces, host ``""``).

    Raises ConfigError for anything else.
    """
    match = _ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > MAX_PORT:
        raise ConfigError(f"listen address {address!r} is not understood", ADDRESS_REMEDY)
    return match["ipv6"] or match["name"] or "", int(match["port"])


def is_local(address: str) -> bool:
    """Return whether nobody on another host reaches *address*. Raises as ``parse_address``."""
    host, _ = parse_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_listeners(addresses: Iterable[str]) -> list[tuple[str, socket.socket]]:
    """Return each address with its real port, and its listening socket.

    Raises ConfigError or SetupError with the address that failed; then none stays open.
    """
    with ExitStack() as opened:
        listeners = []
        for address in addresses:
            listener = opened.enter_context(_listen(address))
            port = listener.getsockname()[1]
            listeners.append((f"{address.rpartition(':')[0]}:{port}", listener))
        opened.pop_all()
        return listeners


def _listen(address: str) -> socket.socket:
    host, port = parse_address(address)
    try:
        return _bind(host, port)
    except (OSError, ValueError) as error:  # a ValueError: no IPv6, or a name that is none
        code = getattr(error, "errno", None) or 0
        remedy = _REMEDIES.get(code, "choose another address")
        # Positive codes are the kernel's; the resolver's own errors have a text of their own.
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", str(error))
        raise SetupError(f"cannot listen on {address}: {reason}", remedy) from error


def _bind(host: str, port: int) -> socket.socket:
    if host == "" and not socket.has_dualstack_ipv6():
        return socket.create_server(("", port), backlog=BACKLOG)
    if host in {"", "::"}:
        family = socket.AF_INET6
        return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=True)
    family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(sockaddr, family=family, backlog=BACKLOG)
