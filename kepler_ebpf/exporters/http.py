"""HTTP for scrapers, probes and people: /metrics, /healthz, /readyz, /api/v1 and the live page.

A reader gets the Snapshot that was published last.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs

from kepler_ebpf.exporters.access import Access, OpenAccess
from kepler_ebpf.exporters.api import Api, Asked, parse_query
from kepler_ebpf.exporters.assets import asset_of
from kepler_ebpf.exporters.connection import Answer, Request, Times, problem
from kepler_ebpf.exporters.hosts import ANY, is_ours
from kepler_ebpf.exporters.listen import is_local, open_listeners, passed_listeners
from kepler_ebpf.exporters.page import Page, Variant, accepts_gzip, negotiated
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.server import UNIX_USER, Reply, ServerThread
from kepler_ebpf.exporters.shared_pages import SharedPages
from kepler_ebpf.exporters.streams import NOT_YET, Streams, Take
from kepler_ebpf.model.snapshot import Snapshot

READY_INTERVALS, READY_MIN_S = 5, 15.0
LIVE_INTERVALS, LIVE_MIN_S = 10, 60.0
"""/readyz and /healthz fail when the last interval ended longer ago than the greater of the two."""

MAX_TAG_CHARS = 1024
"""What is read of If-None-Match."""

MAX_NAMES = 64
"""Fields of a query, so at most as many ``name[]``."""

_AUTHORITY = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""Scheme and host of a request line with a whole URL, as clients send it to a proxy."""

METHODS = {"GET", "HEAD"}
PROBES = {"/healthz", "/readyz"}
UNAUTHORIZED = problem(
    HTTPStatus.UNAUTHORIZED,
    "a user and a password are needed",
    **{"WWW-Authenticate": 'Basic realm="kepler-ebpf"'},
)

FOREIGN_HOST = problem(
    HTTPStatus.MISDIRECTED_REQUEST,
    "here only localhost and IP addresses are known; --allowed-host adds the name in your URL",
)

THERE_ARE = (
    "there are /metrics, /healthz, /readyz, /, /api/v1/snapshot, /api/v1/stream and /api/v1/history"
)


@dataclass(frozen=True, slots=True)
class Service:
    """What is served.

    ``latest`` returns the last published snapshot. ``last_interval_s`` returns the end of the
    last closed interval on the ``clock``, None before the first; snapshots may be older.
    ``refresh`` is called before each scrape, in a thread where it may wait, and may publish a
    newer one. ``interval_s`` is the sampling interval. What ``subscribe`` gets is called with each
    interval that ends, until ``unsubscribe``. ``allowed_hosts`` are names that URLs may have for a
    server on loopback addresses alone, beside localhost; ``*`` is any.
    """

    page: MetricsPage
    latest: Callable[[], Snapshot | None]
    last_interval_s: Callable[[], float | None]
    interval_s: float
    refresh: Callable[[], None]
    api: Api = field(default_factory=Api)
    subscribe: Callable[[Take], None] = lambda _: None
    unsubscribe: Callable[[Take], None] = lambda _: None
    access: Access = field(default_factory=OpenAccess)
    allowed_hosts: tuple[str, ...] = ()
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
        self._hosts = frozenset(map(str.lower, service.allowed_hosts))
        # What the network reaches is read there under any name.
        self._checks_host = ANY not in self._hosts and all(map(is_local, self.addresses))
        self._started_s = service.clock()
        self._pages = SharedPages(self._render, service.latest, service.refresh)
        self._streams = Streams(
            service.subscribe, service.unsubscribe, self._pages.request, self._push
        )
        sockets = (listener for _, listener in listeners)
        self._thread = ServerThread(
            sockets, service.access.wrap, self._respond, service.times, self._streams.watch
        )

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

        path, _, query = _AUTHORITY.sub("", request.target).partition("?")
        is_probe = path in PROBES and request.method in METHODS

        def decide(is_admitted: bool) -> None:
            if is_probe:
                answer = self._ready() if path == "/readyz" else self._alive()
                # Probes have no password; they need the status and no reason.
                send(answer if is_admitted else replace(answer, body=b""))
            elif not is_admitted:
                send(UNAUTHORIZED)
            else:
                self._route(request, path, query, send)

        is_free = is_probe and "authorization" not in request.headers
        wait_s = 0.0 if is_free else access.take(self._service.clock())
        if not wait_s:
            access.admit(request, decide)
        elif is_probe:
            decide(False)  # without a look at the password
        else:
            after = {"Retry-After": str(ceil(wait_s))}
            send(problem(HTTPStatus.TOO_MANY_REQUESTS, "the rate limit is reached", **after))

    def _route(self, request: Request, path: str, query: str, reply: Reply) -> None:
        if request.method not in METHODS:
            reply(problem(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD", Allow="GET, HEAD"))
        elif self._checks_host and not self._is_for_us(request):
            reply(FOREIGN_HOST)
        elif path == "/metrics":
            self._metrics(request, query, reply)
        elif path.startswith("/api/v1/"):
            self._api(path.removeprefix("/api/v1/"), request, query, reply)
        else:
            is_gzipped = accepts_gzip(request.headers.get("accept-encoding", ""))
            asset = asset_of(path, is_gzipped=is_gzipped)
            known = asset and _unless_known(request, asset)
            reply(known or problem(HTTPStatus.NOT_FOUND, THERE_ARE))

    def _is_for_us(self, request: Request) -> bool:
        # No browser opens a unix socket.
        host = request.headers.get("host", "")
        return request.host.startswith(UNIX_USER) or is_ours(host, self._hosts)

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

    def _api(self, resource: str, request: Request, query: str, reply: Reply) -> None:
        if resource not in {"snapshot", "stream", "history"}:
            reply(problem(HTTPStatus.NOT_FOUND, THERE_ARE))
            return
        is_stream = resource == "stream"
        is_gzipped = not is_stream and accepts_gzip(request.headers.get("accept-encoding", ""))
        try:
            asked = parse_query(query, is_history=resource == "history", is_gzipped=is_gzipped)
        except ValueError as error:
            reply(problem(HTTPStatus.BAD_REQUEST, str(error)))
            return

        def send(page: Page | None) -> None:
            if page is None or not page.body:
                reply(page and NOT_YET)
            elif is_stream:
                reply(self._streams.answer(asked, page))
            else:
                reply(_unless_known(request, _json(page, is_gzipped=is_gzipped)))

        self._pages.request(asked, send)

    def _render(self, snapshot: Snapshot | None, wanted: Variant | Asked) -> Page:
        if isinstance(wanted, Variant):
            return self._service.page.render(snapshot, wanted)
        return self._service.api.render(snapshot, wanted)

    def _push(self, channel: Hashable, event: bytes) -> None:
        self._thread.push(channel, event)

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


def _json(page: Page, *, is_gzipped: bool) -> Answer:
    headers = {
        "ETag": f'"{page.tag}{"-gz" if is_gzipped else ""}"',
        "Cache-Control": "no-cache, private",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        **({"Content-Encoding": "gzip"} if is_gzipped else {}),
    }
    return Answer(page.body, page.content_type, headers=headers)


def _unless_known(request: Request, answer: Answer) -> Answer:
    """Return *answer*, without its body where the client has it already."""
    known = request.headers.get("if-none-match", "")[:MAX_TAG_CHARS].split(",")
    if {answer.headers["ETag"], "*"}.isdisjoint(tag.strip().removeprefix("W/") for tag in known):
        return answer
    return replace(answer, body=b"", status=HTTPStatus.NOT_MODIFIED)
