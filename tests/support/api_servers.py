"""A server of the API whose intervals end when a test says so."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from snapshots import HOST, snapshot

from kepler_ebpf.exporters.api import Api
from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.model.snapshot import Snapshot

GIVE_UP_S = 20.0


class ApiServer:
    """A server on a free port of the loopback, and the publisher behind it."""

    def __init__(self, address: str = "127.0.0.1:0", **service: Any) -> None:
        self.publisher = Publisher(1e9, lambda: None)
        self.api = Api("node-1")
        self.publisher.follow(self.api.history.take)
        self.server = Server(
            [address],
            Service(
                MetricsPage(HOST),
                self.publisher.latest,
                time.monotonic,
                1.0,
                lambda: None,
                api=self.api,
                subscribe=self.publisher.subscribe,
                unsubscribe=self.publisher.unsubscribe,
                **service,
            ),
        )
        self.port = int(self.server.addresses[0].rpartition(":")[2])
        self.address = ("127.0.0.1", self.port)
        self.number = 0

    def publish(self, shown: Snapshot | None = None) -> Snapshot:
        """End an interval that *shown* shows, by default one of a second with the usual figures."""
        self.number += 1
        shown = shown or snapshot(at_s=1000.0 + self.number, end_s=50.0 + self.number)
        self.publisher.measured()
        self.publisher.publish(shown, closed=True)
        return shown

    def fetch(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body, decompressed, of one request."""
        connection = http.client.HTTPConnection(*self.address, timeout=GIVE_UP_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            response = connection.getresponse()
            body = response.read()
            if response.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return response.status, dict(response.headers), body
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """Return the value of a resource of the API."""
        status, _, body = self.fetch(f"/api/v1/{path}")
        assert status == 200, body
        return json.loads(body)

    def stream(self, query: str = "", source: str = "127.0.0.1") -> "Stream":
        """Open a stream."""
        return Stream(socket.create_connection(self.address, GIVE_UP_S, (source, 0)), query)


class Stream:
    """The reading end of a stream; ``status`` and ``headers`` are there when it is made."""

    def __init__(self, connection: socket.socket, query: str = "") -> None:
        self.connection = connection
        connection.sendall(
            f"GET /api/v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        self._response = http.client.HTTPResponse(connection)
        self._response.begin()
        self.status, self.headers = self._response.status, dict(self._response.headers)

    def event(self) -> dict[str, str]:
        """Return the fields of the next event, a comment's under "comment"; empty at the end."""
        fields: dict[str, str] = {}
        while line := self._response.readline().decode():
            if line == "\n":
                break
            name, _, value = line.rstrip("\n").partition(":")
            fields[name or "comment"] = value.removeprefix(" ")
        return fields

    def figures(self) -> Any:
        """Return the data of the next event."""
        return json.loads(self.event()["data"])

    def close(self) -> None:
        """Leave."""
        self._response.close()
        self.connection.close()


@contextmanager
def api_server(**service: Any) -> Iterator[ApiServer]:
    """Serve as long as the block, with one interval that has ended."""
    served = ApiServer(**service)
    served.publish()
    try:
        yield served
    finally:
        served.server.close()


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait until it happened; the test fails where it does not."""
    give_up_s = time.monotonic() + GIVE_UP_S
    while not happened():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
