"""A real OpenTelemetry collector, and what it understood of what it was sent."""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GIVE_UP_S = 30


@dataclass(frozen=True)
class Received:
    """A data point as the collector passed it on; times are Unix times in ns."""

    name: str
    unit: str
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    start_ns: int
    time_ns: int
    value: float


@dataclass
class Collector:
    """A running collector: its address, and what it has passed on so far."""

    endpoint: str
    points: list[Received] = field(default_factory=list)

    def until(self, holds: Callable[[list[Received]], object]) -> list[Received]:
        """Wait until what was passed on satisfies *holds*, and return it."""
        give_up_s = time.monotonic() + GIVE_UP_S
        while not holds(points := list(self.points)):
            assert time.monotonic() < give_up_s, f"{len(points)} points, but not those"
            time.sleep(0.05)
        return points


@contextmanager
def collecting(folder: Path, **tls: Any) -> Iterator[Collector]:
    """Run a collector that receives OTLP over HTTP, with *tls* as its configuration has it."""
    program = shutil.which("otelcol")
    assert program, "otelcol is missing: scripts/test builds it"
    collector = Collector("")

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.points += _points(json.loads(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as sink:
        thread = threading.Thread(target=sink.serve_forever, args=(0.05,))
        thread.start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        collector.endpoint = f"{'https' if tls else 'http'}://{address}"
        path = folder / "collector.yaml"
        path.write_text(json.dumps(_config(address, sink.server_port, tls)))
        log = (folder / "collector.log").open("wb")
        process = subprocess.Popen([program, "--config", str(path)], stdout=log, stderr=log)
        try:
            _await(address, process, folder / "collector.log")
            yield collector
        finally:
            process.kill()
            process.wait()
            log.close()
            sink.shutdown()
            thread.join()


def _config(address: str, sink_port: int, tls: dict[str, Any]) -> dict[str, Any]:
    http = {"endpoint": address, **({"tls": tls} if tls else {})}
    sink = {
        "endpoint": f"http://127.0.0.1:{sink_port}",
        "encoding": "json",
        "compression": "none",
        "sending_queue": {"enabled": False},
    }
    metrics = {"receivers": ["otlp"], "exporters": ["otlphttp"]}
    return {
        "receivers": {"otlp": {"protocols": {"http": http}}},
        "exporters": {"otlphttp": sink},
        "service": {
            "pipelines": {"metrics": metrics},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.split(":")
    give_up_s = time.monotonic() + GIVE_UP_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_s, log.read_text()
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def _points(message: dict[str, Any]) -> Iterator[Received]:
    """Yield the data points of a message in JSON, as the protocol's mapping has it."""
    for of_resource in message["resourceMetrics"]:
        resource = _plain(of_resource["resource"]["attributes"])
        for metric in (each for scope in of_resource["scopeMetrics"] for each in scope["metrics"]):
            kind = "sum" if "sum" in metric else "gauge"
            if kind == "sum":
                assert metric["sum"]["aggregationTemporality"] == 2
                assert metric["sum"]["isMonotonic"] is True
            for point in metric[kind]["dataPoints"]:
                yield Received(
                    metric["name"],
                    metric.get("unit", ""),
                    kind,
                    _plain(point.get("attributes", [])),
                    resource,
                    int(point.get("startTimeUnixNano", 0)),
                    int(point["timeUnixNano"]),
                    point["asDouble"],
                )


def _plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}
