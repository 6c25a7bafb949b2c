"""One client: the head of its request is read and the answer is written, and neither waits.

A connection serves one request. It holds at most HEAD_MAX_BYTES of what the client sent, and a
reference to the body of the answer. Of a stream it holds the event that is being written and the
newest one: a slow reader misses those between, and gets their number.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

HEAD_MAX_BYTES = 16 * 1024
HEAD_MAX_LINES = 100
"""Size of a request's first line and headers together; a larger one gets status 431."""

LINGER_S = 1.0
"""Time in which a client may close after its answer; until then what it sends is thrown away."""

SLICE_BYTES = 256 * 1024
SLICES_PER_TURN = 4
"""Part of an answer that is written before other clients have their turn."""

STREAM_S = 600.0
"""A stream ends after this, and its reader comes again: who is let in may have changed."""

HEARTBEAT_S = 15.0
HEARTBEAT = b":\n\n"
"""A comment, sent where no event was for so long: proxies cut silent connections."""

STREAM_BUFFER_BYTES = 32 * 1024
"""The kernel's memory for events that were not read; it doubles this."""

VERSIONS = {b"1.0", b"1.1"}
PLAIN = "text/plain; charset=utf-8"


class Times(NamedTuple):
    """What a client may take: for the head of its request, and from there to the answer's end."""

    head_s: float = 5.0
    answer_s: float = 30.0


class Request(NamedTuple):
    """The head of a request; names of headers are in lower case, equal ones are joined."""

    method: str
    target: str
    headers: Mapping[str, str]
    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets. ``body`` may be shared by many answers, and is never changed.

    With a ``channel`` it is a stream of server-sent events: ``body`` is the first, and the server's
    ``push`` sends more.
    """

    body: bytes | bytearray
    content_type: str = PLAIN
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    channel: Hashable = None


def problem(status: HTTPStatus, message: str, **headers: str) -> Answer:
    """Return an answer of one line of plain text."""
    text = f"{status.value} {status.phrase}: {message}\n"
    return Answer(text.encode("utf-8", "replace"), status=status, headers=headers)


class State(Enum):
    """What a connection does."""

    READING = auto()
    """The head of the request is not whole."""
    WAITING = auto()
    """The answer is being made."""
    WRITING = auto()
    OPEN = auto()
    """A stream whose events are all written."""
    LINGERING = auto()
    """The answer is sent. To close with unread data would take it away from the client again."""
    ENDED = auto()


EVENTS = {
    State.READING: selectors.EVENT_READ,
    State.WRITING: selectors.EVENT_WRITE,
    State.OPEN: selectors.EVENT_READ,
    State.LINGERING: selectors.EVENT_READ,
}
"""What each state waits for; the others wait for nothing from the client."""

READ_TO_END = {State.OPEN, State.LINGERING}
"""States in which what a client sends is thrown away."""


class Connection:
    """A client from its first byte to its end. Its methods raise OSError where the client left."""

    def __init__(self, stream: socket.socket, host: str, times: Times) -> None:
        """Begin with a client that has just connected; *host* is the same for all of its own."""
        self.stream = stream
        self.host = host
        self.state = State.READING
        self.began_s = time.monotonic()
        self.deadline_s = self.began_s + times.head_s
        self.body: bytes | bytearray = b""
        self.channel: Hashable = None
        self._ends_s = 0.0
        self._newest: bytes | None = None
        self._missed = 0
        self._answer_s = times.answer_s
        self._parser = h11.Connection(h11.SERVER, HEAD_MAX_BYTES)
        self._room, self._lines = HEAD_MAX_BYTES, HEAD_MAX_LINES
        self._method = ""
        self._left: list[memoryview] = []
        self._sent = 0

    @property
    def has_request(self) -> bool:
        """Whether the client has sent all of its request and not got all of its answer."""
        return self.state in {State.WAITING, State.WRITING}

    @property
    def bodies(self) -> list[bytes | bytearray]:
        """What the client has not read: a body, and of a stream the newest event."""
        return [each for each in (self.body, self._newest) if each]

    @property
    def bytes_per_s(self) -> float:
        """How fast the client has read its answer up to now."""
        return self._sent / max(time.monotonic() - self.began_s, 1e-9)

    def advance(self) -> Request | None:
        """Do what can be done without waiting; return the request at the moment it is whole."""
        try:
            if self.state is State.READING:
                return self._read()
            if self.state is State.WRITING:
                self._write()
            elif self.state in READ_TO_END:
                self._throw_away()
        except BlockingIOError:
            pass
        return None

    def answer(self, answer: Answer) -> None:
        """Begin to write *answer*."""
        is_stream = answer.channel is not None
        # That of 304 would be the page's, which the client has.
        has_no_length = is_stream or answer.status is HTTPStatus.NOT_MODIFIED
        head = [
            ("Server", "kepler-ebpf"),
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            *([] if has_no_length else [("Content-Length", str(len(answer.body)))]),
            # A kept connection would occupy one of the few places between two scrapes.
            ("Connection", "close"),
            *answer.headers.items(),
        ]
        status = answer.status
        response = h11.Response(status_code=status, headers=head, reason=status.phrase.encode())
        self._left = [memoryview(self._parser.send(response) or b"")]
        self.state = State.WRITING
        if self._method == "HEAD":
            return
        if is_stream:
            self.channel, self._ends_s = answer.channel, time.monotonic() + STREAM_S
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)
        self._put(answer.body)

    def push(self, event: bytes) -> None:
        """Begin to write the next event of a stream, or let it wait as the newest."""
        if self.state is State.OPEN:
            self._put(event)
        elif self.state is State.WRITING:
            self._missed += self._newest is not None
            self._newest = event

    def _put(self, part: bytes | bytearray) -> None:
        """Begin to write *part* of the body."""
        pieces: Iterable[bytes | bytearray] = (part,)
        if self.channel is not None:
            data = h11.Data(data=cast(bytes, part))
            pieces = self._parser.send_with_data_passthrough(data) or ()
            self.deadline_s = time.monotonic() + self._answer_s
        self._left += map(memoryview, pieces)
        self.body, self.state = part, State.WRITING

    def _read(self) -> Request | None:
        received = self.stream.recv(self._room)
        self._room -= len(received)
        self._lines -= received.count(b"\n")
        try:
            self._parser.receive_data(received)
            event = None if self._lines < 0 else self._parser.next_event()
        except h11.RemoteProtocolError as error:
            # The traceback refers to the error, which would live until the next search for cycles.
            error.__traceback__ = None
            self._refuse(HTTPStatus(error.error_status_hint), "this is no HTTP/1 request")
            return None
        if isinstance(event, h11.Request):
            return self._accept(event)
        if not received:
            self.state = State.ENDED
        elif self._lines < 0 or not self._room:
            limit = f"at most {HEAD_MAX_BYTES} bytes and {HEAD_MAX_LINES} lines are read"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, limit)
        return None

    def _throw_away(self) -> None:
        """Read what a client sends after its request: much of it ends a stream."""
        received = len(self.stream.recv(HEAD_MAX_BYTES))
        self._room -= received
        if not received or (self.state is State.OPEN and self._room < 0):
            self.state = State.ENDED

    def _accept(self, event: h11.Request) -> Request | None:
        if event.http_version not in VERSIONS:
            self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.1")
            return None
        headers: dict[str, str] = {}
        for name, value in event.headers:
            text, before = value.decode("latin-1"), headers.get(name.decode("ascii"))
            headers[name.decode("ascii")] = f"{before},{text}" if before is not None else text
        self._method = event.method.decode("ascii")
        self.state = State.WAITING
        self.deadline_s = time.monotonic() + self._answer_s
        return Request(self._method, event.target.decode("latin-1"), headers, self.host)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.deadline_s = time.monotonic() + self._answer_s
        self.answer(problem(status, message))
        self._write()

    def _write(self) -> None:
        for _ in range(SLICES_PER_TURN):
            while self._left and not self._left[0]:
                del self._left[0]
            if not self._left and not self._go_on():
                return
            sent = self.stream.send(self._left[0][:SLICE_BYTES])
            self._left[0] = self._left[0][sent:]
            self._sent += sent

    def _go_on(self) -> bool:
        """Begin with the newest event of a stream; False where there is no more to write now."""
        if self.channel is None or time.monotonic() >= self._ends_s:
            return self._end()
        if self._newest is None:
            self.state, self.body = State.OPEN, b""
            self.deadline_s = min(time.monotonic() + HEARTBEAT_S, self._ends_s)
            return False
        if self._missed:
            self._put(b"event: skipped\ndata: %d\n\n" % self._missed)
        self._put(self._newest)
        self._newest, self._missed = None, 0
        return True

    def _end(self) -> bool:
        """Write the end of a stream, then wait for the client; False where it waits."""
        if self.channel is not None and self._parser.our_state is h11.SEND_BODY:
            self._left = [memoryview(self._parser.send(h11.EndOfMessage()) or b"")]
            if self._left[0]:
                return True
        self.state, self.body = State.LINGERING, b""
        self.deadline_s = time.monotonic() + LINGER_S
        self.stream.shutdown(socket.SHUT_WR)
        return False
