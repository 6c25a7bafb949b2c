"""One thread that serves all clients, with a selector: who has a place, and for how long.

A new client always gets a place. When all are taken, the address with most of them loses the
connection that has waited longest without sending a whole request. Connections that sent one, whose
answers take time, have at most half of an address's places, so probes always get through.
"""

from __future__ import annotations

import logging
import os
import resource
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv6Address, IPv6Network

from kepler_ebpf.exporters.connection import EVENTS, Answer, Connection, Request, State, Times
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.host.unix_socket import peer_of

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
MAX_OF_ONE_ADDRESS = 32
"""Connections of all clients, and of one. The whole is also at most a part of our open files."""

FILES_PER_CONNECTION = 4

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Memory of the different bodies that are being written; then the slowest reader is cut."""

SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES = 256 * 1024, 16 * 1024
"""The kernel's memory for one client, which it doubles; by itself it grows to several MB."""

USER_TIMEOUT_MS = 30_000

ACCEPTS_PER_TURN = 16
PAUSE_S = 0.25
"""Pause of what would fail again at once: to accept without a free file descriptor."""

Reply = Callable[[Answer | None], None]
"""Takes the answer, in any thread; None cuts the connection."""

Respond = Callable[[Request, Reply], None]
"""Gets each request in the server's thread, where it must not wait."""


class ServerThread:
    """Serves on listening sockets until closed."""

    def __init__(
        self,
        listeners: Iterable[socket.socket],
        wrap: Callable[[socket.socket], socket.socket],
        respond: Respond,
        times: Times,
    ) -> None:
        """Take over *listeners*; *respond* replies now or later, and from any thread.

        *wrap* gets each accepted socket, and returns the one to use in its place.
        """
        self._listeners = tuple(listeners)
        self._wrap = wrap
        self._respond = respond
        self._times = times
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._places = max(1, min(MAX_CONNECTIONS, files // FILES_PER_CONNECTION))
        self._selector = selectors.DefaultSelector()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._event, selectors.EVENT_READ)
        self._connections: dict[Connection, int] = {}
        self._replies: deque[tuple[Connection, Answer | None]] = deque()
        self._listen_again_s: float | None = None
        self._stopping = False
        for listener in self._listeners:
            listener.setblocking(False)
            # Accepted sockets inherit the sizes.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._listen()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut the open connections. Nothing may be replied after this."""
        if self._stopping:
            return
        self._stopping = True
        os.eventfd_write(self._event, 1)
        self._thread.join()
        for connection in tuple(self._connections):
            self._cut(connection)
        for listener in self._listeners:
            listener.close()
        self._selector.close()
        os.close(self._event)

    def _run(self) -> None:
        give_up()
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                LOG.exception("The HTTP server failed once, and goes on")
                time.sleep(PAUSE_S)

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if isinstance(key.data, Connection):
                self._advance(key.data)
            elif key.data:
                self._accept(key.data)
            else:
                os.eventfd_read(self._event)
        while self._replies:
            self._answer(*self._replies.popleft())
        now_s = time.monotonic()
        for connection in [each for each in self._connections if each.deadline_s <= now_s]:
            self._cut(connection)
        if self._listen_again_s is not None and self._listen_again_s <= now_s:
            self._listen()

    def _wait_s(self) -> float | None:
        """Return the time to the next deadline, None where there is none."""
        deadlines = [connection.deadline_s for connection in self._connections]
        if self._listen_again_s is not None:
            deadlines.append(self._listen_again_s)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    # --- who has a place

    def _listen(self) -> None:
        self._listen_again_s = None
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, address = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # It left before it was accepted.
                continue
            except OSError as error:
                self._out_of_files(error)
                return
            try:
                client.setblocking(False)
                if client.family in {socket.AF_INET, socket.AF_INET6}:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    # What was not read when it was cut does not stay in the kernel for long.
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
                host = _host(client, address)
                self._admit(Connection(self._wrap(client), host, self._times))
            except OSError as error:
                LOG.debug("a connection ended: %s", error)
                client.close()

    def _admit(self, connection: Connection) -> None:
        hosts = Counter(each.host for each in self._connections)
        if hosts[connection.host] >= min(MAX_OF_ONE_ADDRESS, self._places):
            self._make_room(connection.host)
        elif len(self._connections) >= self._places:
            self._make_room(hosts.most_common(1)[0][0])
        self._connections[connection] = 0
        self._advance(connection)

    def _out_of_files(self, error: OSError) -> None:
        """Make room for the next client, or wait a little instead of spinning."""
        LOG.warning("A client's connection cannot be accepted: %s", error.strerror)
        if self._connections:
            self._make_room(Counter(each.host for each in self._connections).most_common(1)[0][0])
        elif self._listen_again_s is None:
            for listener in self._listeners:
                self._selector.unregister(listener)
            self._listen_again_s = time.monotonic() + PAUSE_S

    def _make_room(self, host: str) -> None:
        """Cut the longest waiting of *host*: without a whole request, if they have half of it."""
        same = [each for each in self._connections if each.host == host]
        with_request = [each for each in same if each.has_request]
        others = [each for each in same if not each.has_request]
        pool = with_request if len(with_request) > len(others) else others
        self._cut(min(pool, key=lambda each: each.began_s))

    def _cut(self, connection: Connection) -> None:
        if self._connections.pop(connection):
            self._selector.unregister(connection.stream)
        connection.stream.close()

    # --- clients

    def _advance(self, connection: Connection) -> None:
        """Let *connection* go on, and wait for what it needs next."""
        if connection not in self._connections:  # cut in this turn, for another one
            return
        try:
            request = connection.advance()
            if request is not None:
                LOG.debug("%s %a from %s", request.method, request.target, connection.host)
                self._respond(request, partial(self._reply, connection))
        except OSError as error:
            LOG.debug("a connection ended: %s", error)
            connection.state = State.ENDED
        except Exception:
            LOG.exception("A request failed")
            connection.state = State.ENDED
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        if connection.state is State.ENDED:
            self._cut(connection)
            return
        watched, events = self._connections[connection], EVENTS.get(connection.state, 0)
        self._connections[connection] = events
        if watched and events and watched != events:
            self._selector.modify(connection.stream, events, connection)
        elif events and not watched:
            self._selector.register(connection.stream, events, connection)
        elif watched and not events:
            self._selector.unregister(connection.stream)

    def _reply(self, connection: Connection, answer: Answer | None) -> None:
        self._replies.append((connection, answer))
        if threading.current_thread() is not self._thread:
            os.eventfd_write(self._event, 1)

    def _answer(self, connection: Connection, answer: Answer | None) -> None:
        if connection not in self._connections:
            return
        if answer is None:
            self._cut(connection)
            return
        connection.answer(answer)
        self._advance(connection)
        self._bound_answers()

    def _bound_answers(self) -> None:
        """Cut the slowest readers while the bodies that are being written are too large."""
        while True:
            readers = [each for each in self._connections if each.body]
            sizes = {id(each.body): len(each.body) for each in readers}
            if len(sizes) <= 1 or sum(sizes.values()) <= MAX_ANSWER_BYTES:
                return
            self._cut(min(readers, key=lambda each: each.bytes_per_s))


def _host(client: socket.socket, address: tuple[str, int]) -> str:
    """Return what is the same for a client's connections; in IPv6 it has a network of 64 bits.

    At a unix socket that is its user.
    """
    if client.family == socket.AF_UNIX:
        return f"uid {peer_of(client).uid}"
    if client.family != socket.AF_INET6:
        return address[0]
    ip = IPv6Address(address[0].partition("%")[0])
    return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
