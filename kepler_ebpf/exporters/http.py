"""HTTP for scrapers and probes: /metrics, /healthz, /readyz and a landing page.

A reader gets the Snapshot that was published last.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol
from urllib.parse import parse_qs

from kepler_ebpf.exporters.connection import Answer, Request, Times, problem
from kepler_ebpf.exporters.listen import open_listeners, passed_listeners
from kepler_ebpf.exporters.page import Page, negotiated
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.server import Reply, ServerThread
from kepler_ebpf.exporters.shared_pages import SharedPages
from kepler_ebpf.exporters.web_config import WebReload
from kepler_ebpf.model.snapshot import Snapshot

READY_INTERVALS, READY_MIN_S = 5, 15.0
LIVE_INTERVALS, LIVE_MIN_S = 10, 60.0
"""/readyz and /healthz fail when the last interval ended longer ago than the greater of the two."""

MAX_NAMES = 64
"""Fields of a query, so at most as many ``name[]``."""

_AUTHORITY = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""Scheme and host of a request line with a whole URL, as clients send it to a proxy."""

METHODS = {"GET", "HEAD"}
HTML = "text/html; charset=utf-8"
UNAUTHORIZED = problem(
    HTTPStatus.UNAUTHORIZED,
    "a user and a password are needed",
    **{"WWW-Authenticate": 'Basic realm="kepler-ebpf"'},
)

LANDING_PAGE = b"""<!doctype html>
<html lang="en"><head><title>kepler-ebpf</title></head><body>
<h1>kepler-ebpf</h1>
<p>Energy of this node's workloads.</p>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/healthz">/healthz</a>: the program measures</li>
<li><a href="/readyz">/readyz</a>: the figures are fresh</li>
</ul>
</body></html>
"""


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

    def admit(self, _: Request, decide: Callable[[bool], None]) -> None:
        """Let the client in."""
        decide(True)

    def reload(self, *_: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is served.

    ``latest`` returns the last published snapshot. ``last_interval_s`` returns the end of the
    last closed interval on the ``clock``, None before the first; snapshots may be older.
    ``refresh`` is called before each scrape, in a thread where it may wait, and may publish a
    newer one. ``interval_s`` is the sampling interval.
    """

    page: MetricsPage
    latest: Callable[[], Snapshot | None]
    last_interval_s: Callable[[], float | None]
    interval_s: float
    refresh: Callable[[], None]
    access: Access = field(default_factory=OpenAccess)
    times: Times = field(default_factory=Times)
    clock: Callable[[], float] = time.monotonic


class Server:
    """The running server; ``addresses`` are the requested ones with their real ports."""

    def __init__(self, addresses: Iterable[str] | None, service: Service) -> None:
        """Serve on every address: ``:PORT``, ``HOST:PORT``, ``[IPV6]:PORT``, ``unix:PATH``.

        Port 0 takes a free one; None is what systemd has passed. Raises ConfigError for text that
        is no address and SetupError where listening fails.
        """
        listeners = passed_listeners() if addresses is None else open_listeners(addresses)
        self.addresses = tuple(address for address, _ in listeners)
        self._service = service
        self._started_s = service.clock()
        self._pages = SharedPages(service.page.render, service.latest, service.refresh)
        sockets = (listener for _, listener in listeners)
        wrap = service.access.wrap
        self._thread = ServerThread(sockets, wrap, self._respond, service.times)

    def close(self) -> None:
        """Stop listening and drop the connections that are still open."""
        # Those who reply from threads of their own go first.
        self._service.access.close()
        self._pages.close()
        self._thread.close()

    def _respond(self, request: Request, reply: Reply) -> None:
        access = self._service.access

        def send(answer: Answer | None) -> None:
            headers = access.headers
            if answer and headers:
                answer = replace(answer, headers={**answer.headers, **headers})
            reply(answer)

        def decide(is_admitted: bool) -> None:
            self._route(request, send, is_admitted=is_admitted)

        access.admit(request, decide)

    def _route(self, request: Request, reply: Reply, *, is_admitted: bool) -> None:
        path, _, query = _AUTHORITY.sub("", request.target).partition("?")
        if path in {"/healthz", "/readyz"} and request.method in METHODS:
            answer = self._ready() if path == "/readyz" else self._alive()
            # Probes have no password; they need the status and no reason.
            reply(answer if is_admitted else replace(answer, body=b""))
        elif not is_admitted:
            reply(UNAUTHORIZED)
        elif request.method not in METHODS:
            reply(problem(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD", Allow="GET, HEAD"))
        elif path == "/metrics":
            self._metrics(request, query, reply)
        elif path in {"/", ""}:
            reply(Answer(LANDING_PAGE, HTML))
        else:
            there_are = "there are /metrics, /healthz, /readyz and /"
            reply(problem(HTTPStatus.NOT_FOUND, there_are))

    def _metrics(self, request: Request, query: str, reply: Reply) -> None:
        try:
            names = frozenset(parse_qs(query, max_num_fields=MAX_NAMES).get("name[]", ()))
        except ValueError:
            reply(problem(HTTPStatus.BAD_REQUEST, f"a query has at most {MAX_NAMES} fields"))
            return
        get = request.headers.get
        variant = negotiated(get("accept", ""), get("accept-encoding", ""), names)
        encoding = {"Content-Encoding": "gzip"} if variant.is_gzipped else {}

        def send(page: Page | None) -> None:
            reply(page and Answer(page.body, page.content_type, headers=encoding))

        self._pages.request(variant, send)

    def _ready(self) -> Answer:
        ended_s = self._service.last_interval_s()
        return self._probe("ready", ended_s, READY_INTERVALS, READY_MIN_S)

    def _alive(self) -> Answer:
        ended_s = self._service.last_interval_s() or self._started_s
        return self._probe("ok", ended_s, LIVE_INTERVALS, LIVE_MIN_S)

    def _probe(self, ok: str, ended_s: float | None, intervals: int, min_s: float) -> Answer:
        """Return *ok* if an interval has ended as lately as it should."""
        limit_s = max(intervals * self._service.interval_s, min_s)
        if ended_s is None:
            text = "no interval has been measured yet"
        elif (age_s := self._service.clock() - ended_s) <= limit_s:
            return Answer(f"{ok}\n".encode())
        else:
            text = f"the last interval ended {age_s:.1f} s ago, more than {limit_s:g} s"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, text)
