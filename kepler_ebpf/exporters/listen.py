"""Listen addresses: their text form, sockets bound to them, and those that systemd has bound."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_address

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.host.service_manager import passed_sockets
from kepler_ebpf.host.unix_socket import MAX_PATH_BYTES, UnixListener, connect_unix

MAX_PORT = 65535
BACKLOG = 1024
"""A burst of clients is accepted at once; those beyond would wait a second for their next try."""

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[\w.-]*)):(?P<port>\d{1,5})", re.ASCII)

UNIX = "unix:"
UNIX_MODE = 0o660
"""Of a unix socket: its user and group may connect."""

ADDRESS_REMEDY = (
    f"write :PORT, HOST:PORT or [IPV6]:PORT with a port from 0 to {MAX_PORT}, or unix:/PATH of at "
    f"most {MAX_PATH_BYTES} bytes"
)

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there or choose another port",
    errno.EACCES: "choose a port above 1023 or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "choose an address that one of this host's interfaces has",
}


def parse_address(address: str) -> tuple[str, int | None]:
    """Split ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (all interfaces, host ``""``).

    ``unix:PATH`` is the path and None. Raises ConfigError for anything else.
    """
    path = address.removeprefix(UNIX)
    is_unix = path != address and path.startswith("/") and "\0" not in path
    if is_unix and len(os.fsencode(path)) <= MAX_PATH_BYTES:
        return path, None
    match = _ADDRESS.fullmatch(address)
    if not match or int(match["port"]) > MAX_PORT:
        raise ConfigError(f"listen address {address!r} is not understood", ADDRESS_REMEDY)
    return match["ipv6"] or match["name"] or "", int(match["port"])


def is_local(address: str) -> bool:
    """Return whether nobody on another host reaches *address*. Raises as ``parse_address``."""
    host, port = parse_address(address)
    try:
        return port is None or ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_listeners(addresses: Iterable[str]) -> list[tuple[str, socket.socket]]:
    """Return each address with its real port, and its listening socket.

    Raises ConfigError or SetupError with the address that failed; then none stays open.
    """
    with ExitStack() as opened:
        listeners = [(each, opened.enter_context(_listen(each))) for each in addresses]
        opened.pop_all()
    return [(_named(each, listener), listener) for each, listener in listeners]


def passed_listeners() -> list[tuple[str, socket.socket]]:
    """Return the addresses and the sockets that systemd has passed. Raises SetupError."""
    return [(_named("", listener), listener) for _, listener in passed_sockets()]


def dial(address: str, timeout_s: float) -> socket.socket:
    """Connect to a listen address of this host. Raises OSError."""
    host, port = parse_address(address)
    if port is not None:
        return socket.create_connection((host or "localhost", port), timeout_s)
    return connect_unix(host, timeout_s)


def _named(address: str, listener: socket.socket) -> str:
    """Return what *listener* is bound to, with the host as *address* has it."""
    bound = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{bound}"
    host = f"[{bound[0]}]" if listener.family == socket.AF_INET6 else bound[0]
    return f"{address.rpartition(':')[0] if address else host}:{bound[1]}"


def _listen(address: str) -> socket.socket:
    host, port = parse_address(address)
    try:
        return _bind(host, port)
    except (OSError, ValueError) as error:  # a ValueError: no IPv6, or a name that is none
        code = getattr(error, "errno", None) or 0
        remedy = _REMEDIES.get(code, "choose another address")
        if port is None:
            remedy = "name a path that is free, in a folder that this program may write"
        # Positive codes are the kernel's; the resolver's own errors have a text of their own.
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", str(error))
        raise SetupError(f"cannot listen on {address}: {reason}", remedy) from error


def _bind(host: str, port: int | None) -> socket.socket:
    if port is None:
        return UnixListener(host, UNIX_MODE, BACKLOG)
    if host == "" and not socket.has_dualstack_ipv6():
        return socket.create_server(("", port), backlog=BACKLOG)
    if host in {"", "::"}:
        family = socket.AF_INET6
        return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=True)
    family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(sockaddr, family=family, backlog=BACKLOG)
