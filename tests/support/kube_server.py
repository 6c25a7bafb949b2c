"""A real HTTP(S) server on loopback that speaks list, watch and /pods as Kubernetes does.

It keeps pods with resource versions and a history that can be compacted, streams watches in
chunks, and can be told to answer the next request of a kind in any bad way.
"""

import copy
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kube_certificates import Certificate

Json = dict[str, Any]

FIXTURES = Path(__file__).parent / "fixtures" / "kube"
NODE = "node-a"


def recorded(name: str) -> Json:
    """Return the recorded Pod object *name*: deployment, static_mirror or static_kubelet."""
    value: Json = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return value


def make_pod(number: int, node: str = NODE) -> Json:
    """Return a pod of the recorded shape with names, uid and container ids of its own."""
    pod = recorded("deployment")
    pod["metadata"]["uid"] = f"00000000-0000-4000-8000-{number:012x}"
    pod["metadata"]["name"] = f"web-6d4b75cb6d-{number:05d}"
    pod["spec"]["nodeName"] = node
    for place, status in enumerate(container_statuses(pod)):
        status["containerID"] = f"containerd://{container_id(number, place)}"
        status["state"] = {"running": {"startedAt": "2026-11-24T09:00:06Z"}}
        status["lastState"] = {}
    return pod


def container_id(number: int, place: int = 0) -> str:
    """Return the id of a container of ``make_pod(number)``; place 0 is "web"."""
    return f"{number:032x}{place:032x}"


def container_statuses(pod: Json) -> list[Json]:
    """Return the status of every container of *pod*: ordinary, init, ephemeral."""
    status = pod["status"]
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    return [entry for name in fields for entry in status.get(name, [])]


# --- bad answers ------------------------------------------------------------------------------

Answer = Callable[["_Handler"], None]
"""Sends an answer on a handler that has read the request."""


def status(code: int, message: str = "", **headers: str) -> Answer:
    """Answer with this HTTP status and a Status object, as the API server does."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}

    def answer(handler: "_Handler") -> None:
        data = json.dumps({**body, "code": code}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.send_body(code, data, named)

    return answer


def raw(data: bytes, content_type: str = "application/json", code: int = 200) -> Answer:
    """Answer with exactly these bytes."""
    return lambda handler: handler.send_body(code, data, {"Content-Type": content_type})


def cut(data: bytes) -> Answer:
    """Promise more bytes than *data*, send those and reset the connection."""

    def answer(handler: "_Handler") -> None:
        handler.start(200, {"Content-Length": str(len(data) + 1000)})
        handler.wfile.write(data)
        handler.reset()

    return answer


def slow(data: bytes, piece: int, pause_s: float) -> Answer:
    """Send *data* chunked in pieces of this size with a pause after each."""

    def answer(handler: "_Handler") -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), piece):
            handler.send_chunk(data[at : at + piece])
            time.sleep(pause_s)
        handler.send_chunk(b"")

    return answer


# --- the server -------------------------------------------------------------------------------


@dataclass
class Seen:
    """A request the server got."""

    kind: str
    path: str
    query: dict[str, str]
    token: str


@dataclass
class State:
    """What the cluster holds, shared by the handlers; guarded by ``changed``."""

    version: int = 1000
    compacted: int = 0
    pods: dict[str, Json] = field(default_factory=dict)
    history: list[tuple[int, bytes, str]] = field(default_factory=list)
    nodes: set[str] = field(default_factory=lambda: {NODE})
    token: str | None = None
    page_limit: bool = True
    generation: int = 0
    tear: bool = False
    closing: bool = False
    next_answers: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def kubelet_list(self) -> bytes:
        """Return the pods as a kubelet sends them: no versions, and null where there are none."""
        with self.changed:
            return _list_body(list(self.pods.values()), None, "")


class KubeServer:
    """The server; ``stop`` and ``start`` again to simulate an outage on the same port."""

    def __init__(self, certificate: "Certificate | None" = None) -> None:
        """Listen on a free port of 127.0.0.1, with TLS when there is a *certificate*."""
        self.state = State()
        self._certificate = certificate
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        handler = type("Handler", (_Handler,), {"state": self.state})
        self.state.closing = False
        server = _Server(("127.0.0.1", self._port), handler)
        if self._certificate is not None:
            server.socket = self._certificate.wrap(server.socket)
        self._port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        with self.state.changed:
            self.state.closing = True
            self.state.generation += 1
            self.state.changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def put(self, pod: Json) -> None:
        """Add *pod*, or modify the one with its uid."""
        uid = pod["metadata"]["uid"]
        with self.state.changed:
            self._record("MODIFIED" if uid in self.state.pods else "ADDED", pod)
            self.state.pods[uid] = self._stamped(pod)

    def remove(self, uid: str) -> None:
        """Delete the pod with this uid."""
        with self.state.changed:
            self._record("DELETED", self.state.pods.pop(uid))

    def bookmark(self) -> None:
        """Send every watch a bookmark."""
        with self.state.changed:
            self._record("BOOKMARK", {"kind": "Pod", "metadata": {}})

    def send_event(self, line: bytes, node: str = "") -> None:
        """Send every watch this line as it is."""
        with self.state.changed:
            self.state.version += 1
            self.state.history.append((self.state.version, line, node))
            self.state.changed.notify_all()

    def send_error_event(self, code: int, message: str) -> None:
        """Send every watch an ERROR event, as the API server does when it gives one up."""
        status_object = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}
        self.send_event(json.dumps({"type": "ERROR", "object": status_object}).encode())

    def compact(self) -> None:
        """Forget the history: a watch from an older version gets 410."""
        with self.state.changed:
            self.state.compacted = self.state.version
            self.state.history.clear()

    def end_watches(self, *, tear: bool = False) -> None:
        """End every watch, in the middle of an object when *tear*."""
        with self.state.changed:
            self.state.tear = tear
            self.state.generation += 1
            self.state.changed.notify_all()

    def answer_next(self, kind: str, *answers: Answer) -> None:
        """Answer the next requests of *kind* (list, watch, node, pods) with these."""
        self.state.next_answers.setdefault(kind, []).extend(answers)

    def seen(self, kind: str) -> list[Seen]:
        """Return the requests of *kind* so far."""
        return [request for request in self.state.seen if request.kind == kind]

    def list_body(self) -> bytes:
        """Return the list of all pods as the server would send it."""
        return _list_body(list(self.state.pods.values()), self.state.version, "")

    def _stamped(self, value: Json) -> Json:
        stamped = copy.deepcopy(value)
        stamped["metadata"]["resourceVersion"] = str(self.state.version)
        return stamped

    def _record(self, kind: str, value: Json) -> None:
        self.state.version += 1
        line = json.dumps({"type": kind, "object": self._stamped(value)}).encode()
        node = value.get("spec", {}).get("nodeName", "")
        self.state.history.append((self.state.version, line, node))
        self.state.changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    state: State
    generation: int
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        kind = _kind(url.path, query)
        token = self.headers.get("Authorization", "").partition(" ")[2]
        with self.state.changed:
            # A watch that has been seen is one that `end_watches` ends.
            self.generation = self.state.generation
            self.state.seen.append(Seen(kind, url.path, query, token))
        waiting = self.state.next_answers.get(kind)
        if waiting:
            waiting.pop(0)(self)
        elif self.state.token is not None and token != self.state.token:
            status(401, "Unauthorized")(self)
        else:
            getattr(self, f"_{kind}")(query)

    def start(self, code: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        """Send a whole answer."""
        self.start(code, {"Content-Length": str(len(data)), **headers})
        self.wfile.write(data)

    def send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reset(self) -> None:
        """Reset the connection instead of closing it, once what was sent is on its way."""
        self.wfile.flush()
        linger_0_s = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0_s)
        self.close_connection = True

    def _list(self, query: dict[str, str]) -> None:
        node = query.get("fieldSelector", "").partition("=")[2]
        with self.state.changed:
            pods = [pod for pod in self.state.pods.values() if pod["spec"]["nodeName"] == node]
            version = self.state.version
        start = int(query.get("continue", 0))
        limit = int(query.get("limit", 0)) if self.state.page_limit else 0
        end = start + limit if limit else len(pods)
        more = str(end) if end < len(pods) else ""
        self.send_body(200, _list_body(pods[start:end], version, more), {})

    def _watch(self, query: dict[str, str]) -> None:
        node = query.get("fieldSelector", "").partition("=")[2]
        version = int(query["resourceVersion"])
        if version < self.state.compacted:
            status(410, f"too old resource version: {version}")(self)
            return
        self.start(200, {"Transfer-Encoding": "chunked"})
        until_s = time.monotonic() + float(query.get("timeoutSeconds", "inf"))
        for line in self._events(version, node, until_s):
            self.send_chunk(line + b"\n")
        if self.state.tear:
            self.send_chunk(b'{"type":"MODIFIED","object":{"kind":"Pod","meta')
            self.reset()
        elif not self.state.closing:
            self.send_chunk(b"")
        self.close_connection = self.close_connection or self.state.closing

    def _events(self, version: int, node: str, until_s: float) -> Iterator[bytes]:
        while True:
            with self.state.changed:
                fresh = [event for event in self.state.history if event[0] > version]
                ended = not fresh and self.state.generation != self.generation
                if self.state.closing or ended or time.monotonic() > until_s:
                    return
                if not fresh:
                    self.state.changed.wait(1.0)
                    continue
            yield from (line for _, line, of_node in fresh if of_node in {node, ""})
            version = fresh[-1][0]

    def _node(self, _query: dict[str, str]) -> None:
        name = self.path.rpartition("/")[2]
        if name not in self.state.nodes:
            status(404, f'nodes "{name}" not found')(self)
            return
        self.send_body(200, json.dumps({"kind": "Node", "metadata": {"name": name}}).encode(), {})

    def _pods(self, _query: dict[str, str]) -> None:
        self.send_body(200, self.state.kubelet_list(), {})


def _kind(path: str, query: dict[str, str]) -> str:
    if path == "/pods":
        return "pods"
    if path.startswith("/api/v1/nodes/"):
        return "node"
    return "watch" if query.get("watch") == "1" else "list"


def _list_body(pods: list[Json], version: int | None, more: str) -> bytes:
    metadata = {} if version is None else {"resourceVersion": str(version)}
    if more:
        metadata["continue"] = more
    # Go writes an empty slice of the kubelet's list as null.
    items = pods or (None if version is None else [])
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}
    return json.dumps(body).encode()


@contextmanager
def serving(certificate: Certificate | None = None) -> Iterator[KubeServer]:
    """Run a server for the length of a with block."""
    server = KubeServer(certificate)
    try:
        yield server
    finally:
        server.stop()


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until *holds* is true; fails the test when it does not come true in time."""
    until_s = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until_s:
            raise AssertionError("it did not come true in time")
        time.sleep(0.005)
