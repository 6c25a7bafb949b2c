"""first_metrics_s: from exec of `kepler-ebpf run` to a scrape with process series.

first_metrics_s_all is that of a `run` with everything on, over TLS with a password.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

from benchmarks.exporter import HOST, PROCESS_SERIES, START_S, starting
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS, Checkout
from benchmarks.serving import connect, fetch, web_config
from kepler_ebpf.model.levels import LEVELS

STARTS = 5
POLL_S = 0.01
FILTERS = (
    *("--process-top-n", "500", "--process-min-joules", "0.001"),
    *("--allow-comm", ".*", "--deny-comm", "nobody-.*", "--allow-cgroup", ".*"),
    *("--deny-cgroup", "/nowhere/.*"),
)


def measure() -> Iterator[Figure]:
    """Start it five times at its default interval of one second."""
    yield _figure("first_metrics_s", [_first_metrics_s(OURS) for _ in range(STARTS)], 1.5)


def measure_all() -> Iterator[Figure]:
    """Start it five times with everything on."""
    yield _figure("first_metrics_s_all", [_first_metrics_of_all_s() for _ in range(STARTS)], 0.6)


def _figure(name: str, seconds: list[float], bar_s: float) -> Figure:
    details = {
        "worst": rounded(max(seconds)),
        "best": rounded(min(seconds)),
        "starts": STARTS,
        "interval_s": 1,
    }
    return Figure(name, statistics.median(seconds), "s", Bar(bar_s), details)


def sample(checkout: Checkout) -> dict[str, float]:
    """Median of a checkout."""
    return {"median": statistics.median(_first_metrics_s(checkout) for _ in range(STARTS))}


def _first_metrics_s(checkout: Checkout) -> float:
    began_s = time.monotonic()
    with starting(checkout=checkout) as exporter:
        exporter.await_series(POLL_S)
        return time.monotonic() - began_s


def _first_metrics_of_all_s() -> float:
    """TLS, passwords, OTLP, filters, units, stdout, and unix sockets for metrics and jobs."""
    with (
        web_config() as config,
        tempfile.TemporaryDirectory() as folder,
        socket.create_server((HOST, 0)) as collector,
    ):
        arguments = (
            *("--web.config-file", config, "--web.listen-address", f"unix:{folder}/web.sock"),
            *("--exporter.otlp", "--otlp-endpoint", f"http://{HOST}:{collector.getsockname()[1]}"),
            *("--jobs-socket", f"{folder}/jobs.sock", "--served-interval", "1s"),
            *("--exporter.stdout", *(f"--metrics={level}" for level in LEVELS), *FILTERS),
        )
        began_s = time.monotonic()
        with starting(*arguments) as exporter:
            while not _serves(exporter.port):
                if not exporter.is_alive or time.monotonic() > began_s + START_S:
                    raise RuntimeError("it serves no process: see its log above")
                time.sleep(POLL_S)
            return time.monotonic() - began_s


def _serves(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return PROCESS_SERIES in fetch(connect(port, secure=True), "identity").decode()
    return False
