"""One thread that serves all clients, with a selector."""

from __future__ import annotations

import logging
import os
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from ipaddress import IPv6Address, IPv6Network

from kepler_ebpf.exporters.connection import (
    EVENTS,
    HEARTBEAT,
    Answer,
    Connection,
    Request,
    State,
    Times,
)
from kepler_ebpf.exporters.places import MAX_CONNECTIONS, NO_STREAM_PLACE, Places
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.host.unix_socket import peer_of

LOG = logging.getLogger(__name__)

FILES_PER_CONNECTION = 4

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Memory of the different bodies that are being written; then the slowest reader is cut."""

SEND_BUFFER_BYTES, RECEIVE_BUFFER_BYTES = 256 * 1024, 16 * 1024
"""The kernel's memory for one client, which it doubles; by itself it grows to several MB."""

USER_TIMEOUT_MS = 30_000

UNIX_USER = "uid "
"""What the host of a client at a unix socket begins with."""

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
        watch: Callable[[frozenset[Hashable]], None] = lambda _: None,
    ) -> None:
        """Take over *listeners*; *respond* replies now or later, and from any thread.

        *wrap* gets each accepted socket, and returns the one to use in its place. *watch* gets the
        channels that have streams, each time that a stream begins or ends.
        """
        self._listeners = tuple(listeners)
        self._wrap = wrap
        self._respond = respond
        self._times = times
        self._watch_channels = watch
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._places = Places(max(1, min(MAX_CONNECTIONS, files // FILES_PER_CONNECTION)))
        self._selector = selectors.DefaultSelector()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._event, selectors.EVENT_READ)
        self._connections: dict[Connection, int] = {}
        self._replies: deque[tuple[Connection, Answer | None]] = deque()
        self._pushed: deque[tuple[Hashable, bytes]] = deque()
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

    def push(self, channel: Hashable, event: bytes) -> None:
        """Send *event* to each stream of *channel*, from any thread."""
        self._pushed.append((channel, event))
        os.eventfd_write(self._event, 1)

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
        while self._pushed:
            self._send(*self._pushed.popleft())
        now_s = time.monotonic()
        for connection in [each for each in self._connections if each.deadline_s <= now_s]:
            self._expire(connection)
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
        taken = self._places.taken_for(connection.host, self._connections)
        if taken:
            self._cut(taken)
        self._connections[connection] = 0
        self._advance(connection)

    def _out_of_files(self, error: OSError) -> None:
        """Make room for the next client, or wait a little instead of spinning."""
        LOG.warning("A client's connection cannot be accepted: %s", error.strerror)
        if dispensable := self._places.dispensable(self._connections):
            self._cut(dispensable)
        elif self._listen_again_s is None:
            for listener in self._listeners:
                self._selector.unregister(listener)
            self._listen_again_s = time.monotonic() + PAUSE_S

    def _cut(self, connection: Connection) -> None:
        if self._connections.pop(connection):
            self._selector.unregister(connection.stream)
        connection.stream.close()
        if connection.channel is not None:
            self._notify_channels()

    def _notify_channels(self) -> None:
        channels = (each.channel for each in self._connections)
        self._watch_channels(frozenset(each for each in channels if each is not None))

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
        if answer.channel is not None and not self._places.has_stream_place(
            connection.host, self._connections
        ):
            answer = NO_STREAM_PLACE
        connection.answer(answer)
        if connection.channel is not None:
            self._notify_channels()
        self._advance(connection)
        self._bound_answers()

    def _send(self, channel: Hashable, event: bytes) -> None:
        for connection in [each for each in self._connections if each.channel == channel]:
            connection.push(event)
            self._advance(connection)
        self._bound_answers()

    def _expire(self, connection: Connection) -> None:
        if connection.state is State.OPEN:
            connection.push(HEARTBEAT)
            self._advance(connection)
        else:
            self._cut(connection)

    def _bound_answers(self) -> None:
        """Cut the slowest readers while the bodies that are being written are too large."""
        while True:
            readers = [each for each in self._connections if each.bodies]
            sizes = {id(body): len(body) for each in readers for body in each.bodies}
            if len(sizes) <= 1 or sum(sizes.values()) <= MAX_ANSWER_BYTES:
                return
            self._cut(min(readers, key=lambda each: each.bytes_per_s))


def _host(client: socket.socket, address: tuple[str, int]) -> str:
    """Return what is the same for a client's connections; in IPv6 it has a network of 64 bits.

    At a unix socket that is its user.
    """
    if client.family == socket.AF_UNIX:
        return f"{UNIX_USER}{peer_of(client).uid}"
    if client.family != socket.AF_INET6:
        return address[0]
    ip = IPv6Address(address[0].partition("%")[0])
    return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
