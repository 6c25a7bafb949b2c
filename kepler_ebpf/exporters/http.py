"""HTTP for scrapers and probes: /metrics, /healthz, /readyz and a landing page.

A reader never touches the sampling loop: it gets whatever Snapshot was published last. Broken and
slow clients cost one thread of a bounded number, for a bounded time.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs

from kepler_ebpf.exporters.accept import accepted
from kepler_ebpf.exporters.listen import open_listeners
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.model.snapshot import Snapshot

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
"""Open connections of one listen address; the next one is told to come back."""

POLL_S = 2.0
"""How often a listener looks for connections past their time: seldom, as each look costs CPU."""

OUT_OF_FILES_WAIT_S = 0.25

STALE_INTERVALS = 5
STALE_MIN_S = 15.0
"""A last snapshot older than the longer of the two makes /readyz fail."""

_AUTHORITY = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""What comes before the path where a client asks for a whole URL, as it would ask a proxy."""

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

LANDING_PAGE = b"""<!doctype html>
<html lang="en"><head><title>kepler-ebpf</title></head><body>
<h1>kepler-ebpf</h1>
<p>Energy of this node's workloads.</p>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/healthz">/healthz</a>: the program answers</li>
<li><a href="/readyz">/readyz</a>: the figures are fresh</li>
</ul>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Service:
    """What is served.

    ``latest`` returns the last published snapshot. ``refresh`` is called before each scrape, in
    the reader's thread, and may publish a newer one. ``interval_s`` is the sampling interval.
    A client has ``timeout_s`` for each step and three times that in all.
    """

    page: MetricsPage
    latest: Callable[[], Snapshot | None]
    interval_s: float
    refresh: Callable[[], None] | None = None
    timeout_s: float = 10.0


class Server:
    """The running listeners; ``addresses`` are those asked for, with the real ports."""

    def __init__(self, listeners: list[tuple[str, socket.socket]], service: Service) -> None:
        """Serve *service* on *listeners*, which are closed in the end."""
        self.addresses = tuple(address for address, _ in listeners)
        self._listeners = [_Listener(listener, service) for _, listener in listeners]
        self._threads = [
            threading.Thread(
                target=listener.serve_forever, args=(POLL_S,), name="http", daemon=True
            )
            for listener in self._listeners
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening and drop the connections that are still open."""
        for listener, thread in zip(self._listeners, self._threads, strict=True):
            listener.stop()
            thread.join()
            listener.server_close()


def start_server(addresses: Iterable[str], service: Service) -> Server:
    """Serve on every address (``:PORT``, ``HOST:PORT``, ``[IPV6]:PORT``; port 0 takes a free one).

    Raises ConfigError for an address that is none and SetupError for one that cannot be had.
    """
    return Server(open_listeners(addresses), service)


class _Listener(ThreadingHTTPServer):
    """One listening socket, a thread for each connection, and a limit on both."""

    def __init__(self, listener: socket.socket, service: Service) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.service = service
        self._since: dict[socket.socket, float] = {}

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
        if len(self._since) >= MAX_CONNECTIONS:
            _refuse(request)
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection, however it ended, and forget it."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut the connections that have had their time."""
        self._cut(time.monotonic() - 3 * self.service.timeout_s)

    def stop(self) -> None:
        """End ``serve_forever`` at once, from another thread."""
        stopping = threading.Thread(target=self.shutdown)
        stopping.start()
        # Wakes the listener from its wait for connections.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        stopping.join()

    def server_close(self) -> None:
        """Stop listening and cut what is open."""
        super().server_close()
        self._cut(time.monotonic())

    def _cut(self, opened_before: float) -> None:
        for request, since in tuple(self._since.items()):
            if since <= opened_before:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what ended a connection: a client's fault quietly, a fault of ours with its trace."""
        error = sys.exception()
        if isinstance(error, OSError):
            LOG.debug("connection from %s ended: %s", client_address, error)
        else:
            LOG.error("request from %s failed", client_address, exc_info=error)


def _refuse(request: socket.socket) -> None:
    with suppress(OSError):
        request.setblocking(False)
        request.send(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n"
            b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
        )


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
            self._reply(HTTPStatus.OK, PLAIN, b"ok\n")
        elif path in {"/", ""}:
            self._reply(HTTPStatus.OK, HTML, LANDING_PAGE)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz, /readyz and /")

    do_HEAD = do_GET  # noqa: N815  the base calls it by the method's name

    def _metrics(self, query: str) -> None:
        if self.service.refresh is not None:
            self.service.refresh()
        encodings = accepted(self.headers.get("Accept-Encoding", ""))
        compress = any(each.name == "gzip" for each in encodings)
        page = self.service.page.render(
            self.service.latest(),
            self.headers.get("Accept", ""),
            compress=compress,
            names=frozenset(parse_qs(query).get("name[]", ())),
        )
        encoding = {"Content-Encoding": "gzip"} if compress else {}
        self._reply(HTTPStatus.OK, page.content_type, page.body, encoding)

    def _ready(self) -> None:
        snapshot = self.service.latest()
        if snapshot is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "no interval has been measured yet")
            return
        age_s = time.time() - snapshot.at_s
        limit_s = max(STALE_INTERVALS * self.service.interval_s, STALE_MIN_S)
        if age_s > limit_s:
            text = f"the last interval ended {age_s:.1f} s ago, more than {limit_s:g} s"
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, text)
            return
        self._reply(HTTPStatus.OK, PLAIN, b"ready\n")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with one line of plain text; an unknown method is one we do not allow."""
        status = HTTPStatus(code)
        headers = {}
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status, message = HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD"
            headers = {"Allow": "GET, HEAD"}
        text = f"{status.value} {status.phrase}: {message or explain or status.description}\n"
        self._reply(status, PLAIN, text.encode("utf-8", "replace"), headers)

    def _reply(
        self,
        status: HTTPStatus,
        content_type: str,
        body: bytes | bytearray,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        # A kept connection would hold one of the few threads between two scrapes.
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "kepler-ebpf"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's own name
        LOG.debug("%s %s", self.address_string(), format % args)
