"""HTTP for scrapers and probes: /metrics, /healthz, /readyz and a landing page.

A reader gets the Snapshot that was published last. Broken and slow clients cost one thread of a
bounded number, for a bounded time.
"""

from __future__ import annotations

import errno
import logging
import math
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import cast
from urllib.parse import parse_qs

from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.listen import open_listeners
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.model.snapshot import Snapshot

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
"""Open connections of one listen address; the next one gets status 503."""

OUT_OF_FILES_WAIT_S = 0.25

STALE_INTERVALS = 5
STALE_MIN_S = 15.0
"""/readyz fails when the last interval ended longer ago than the greater of the two."""

_AUTHORITY = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""Scheme and host of a request line with a whole URL, as clients send it to a proxy."""

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n"
    b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
)
LANDING_PAGE = b"""<!doctype html>
<html lang="en"><head><title>kepler-ebpf</title></head><body>
<h1>kepler-ebpf</h1>
<p>Energy of this node's workloads.</p>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/healthz">/healthz</a>: the program serves</li>
<li><a href="/readyz">/readyz</a>: the figures are fresh</li>
</ul>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Service:
    """What is served.

    ``latest`` returns the last published snapshot. ``last_interval_s`` returns the end of the
    last closed interval in monotonic seconds, None before the first; snapshots may be older.
    ``refresh`` is called before each scrape, in the reader's thread, and may publish a newer one.
    ``interval_s`` is the sampling interval. A client has ``timeout_s`` for each step and
    three times that in all.
    """

    page: MetricsPage
    latest: Callable[[], Snapshot | None]
    last_interval_s: Callable[[], float | None]
    interval_s: float
    refresh: Callable[[], None]
    timeout_s: float = 10.0


class Server:
    """The running listeners; ``addresses`` are the requested ones with their real ports."""

    def __init__(self, addresses: Iterable[str], service: Service) -> None:
        """Serve *service* on every address: ``:PORT``, ``HOST:PORT``, ``[IPV6]:PORT``.

        Port 0 takes a free one. Raises ConfigError for text that is no address and SetupError
        where listening fails.
        """
        listeners = open_listeners(addresses)
        self.addresses = tuple(address for address, _ in listeners)
        self._listeners = [_Listener(listener, service) for _, listener in listeners]

    def close(self) -> None:
        """Stop listening and drop the connections that are still open."""
        for listener in self._listeners:
            listener.stop()


class _Listener(ThreadingHTTPServer):
    """One listening socket, a thread for each connection, and a limit on both."""

    def __init__(self, listener: socket.socket, service: Service) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.service = service
        self._open: set[socket.socket] = set()
        self._deadlines_s: dict[socket.socket, float] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Serve until ``stop``; wakes for new connections and overdue ones only."""
        while not self._stopping:
            self.timeout = self._cut_overdue()
            self.handle_request()

    def stop(self) -> None:
        """Stop listening and cut the open connections."""
        self._stopping = True
        _cut(self.socket)  # wakes the listener from its wait for connections
        self._thread.join()
        self.server_close()
        for request in tuple(self._open):
            _cut(request)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; out of file descriptors, wait a little instead of spinning."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                time.sleep(OUT_OF_FILES_WAIT_S)
            raise

    def process_request(  # type: ignore[override]  # typeshed also allows datagrams
        self, request: socket.socket, client_address: tuple[str, int]
    ) -> None:
        """Handle the connection in a thread, or refuse it when there are too many."""
        if len(self._open) >= MAX_CONNECTIONS:
            with suppress(OSError):
                request.setblocking(False)
                request.send(REFUSAL)
            self.shutdown_request(request)
            return
        self._open.add(request)
        self._deadlines_s[request] = time.monotonic() + 3 * self.service.timeout_s
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, however it ended, and forget it."""
        self._open.discard(request)
        self._deadlines_s.pop(request, None)
        super().shutdown_request(request)

    def _cut_overdue(self) -> float | None:
        """Cut the overdue connections; returns the seconds to the next deadline, if any."""
        now_s = time.monotonic()
        for request, deadline_s in tuple(self._deadlines_s.items()):
            if deadline_s > now_s:
                return deadline_s - now_s
            self._deadlines_s.pop(request, None)
            _cut(request)
        return None

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log why a connection ended: a client's fault at debug, a bug of ours with its trace."""
        error = sys.exception()
        if isinstance(error, OSError):
            LOG.debug("connection from %s ended: %s", client_address, error)
        else:
            LOG.error("request from %s failed", client_address, exc_info=error)


def _cut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.service = cast("_Listener", self.server).service
        super().setup()
        self.connection.settimeout(self.service.timeout_s)

    def do_GET(self) -> None:
        path, _, query = _AUTHORITY.sub("", self.path).partition("?")
        if path == "/metrics":
            self._metrics(query)
        elif path == "/readyz":
            self._ready()
        elif path == "/healthz":
            self._reply(b"ok\n")
        elif path in {"/", ""}:
            self._reply(LANDING_PAGE, HTML)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz, /readyz and /")

    do_HEAD = do_GET  # noqa: N815  the base calls it by the method's name

    def _metrics(self, query: str) -> None:
        self.service.refresh()
        encodings = accepted(self.headers.get("Accept-Encoding", ""))
        compress = any(item.name == "gzip" for item in encodings)
        page = self.service.page.render(
            self.service.latest(),
            self.headers.get("Accept", ""),
            compress=compress,
            names=frozenset(parse_qs(query).get("name[]", ())),
        )
        encoding = {"Content-Encoding": "gzip"} if compress else {}
        self._reply(page.body, page.content_type, headers=encoding)

    def _ready(self) -> None:
        ended_s = self.service.last_interval_s()
        age_s = math.inf if ended_s is None else time.monotonic() - ended_s
        limit_s = max(STALE_INTERVALS * self.service.interval_s, STALE_MIN_S)
        if age_s <= limit_s:
            self._reply(b"ready\n")
            return
        problem = f"the last interval ended {age_s:.1f} s ago, more than {limit_s:g} s"
        if ended_s is None:
            problem = "no interval has been measured yet"
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, problem)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Reply with one line of plain text; an unknown method gets status 405."""
        status = HTTPStatus(code)
        headers = {}
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status, message = HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD"
            headers = {"Allow": "GET, HEAD"}
        text = f"{status.value} {status.phrase}: {message or explain or status.description}\n"
        self._reply(text.encode("utf-8", "replace"), status=status, headers=headers)

    def _reply(
        self,
        body: bytes | bytearray,
        content_type: str = PLAIN,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        # A kept connection would occupy one of the few threads between two scrapes.
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "kepler-ebpf"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's own name
        LOG.debug("%s %s", self.address_string(), format % args)
