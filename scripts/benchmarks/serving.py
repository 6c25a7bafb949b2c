"""What readers cost: a page of 10,000 processes, with and without TLS and a password.

``scrape_ms_10k`` is CPU time of the exporter for each page, less what it uses without readers.
``lateness_under_scrape`` is how late ticks of 100 ms are beside four readers without a pause.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import numpy as np

from benchmarks.exporter import HOST, Exporter, starting
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.processes import sleepers
from benchmarks.watched import watched

PROCESSES = 10_000
LISTED = ("--meter", "fake", "--max-processes", "20000")
PERIOD_S = 1.1
"""Longer than an interval: each page has to be made."""

SCRAPES = 20
SETTLE_S = 10.0
READERS = 4
USER, COST = "bench", 10


def measure() -> Iterator[Figure]:
    """The cost of a page, and the memory that is held for it."""
    plain_ms, rss_mb, size = _scraped(())
    with web_config() as config:
        tls_ms, _, _ = _scraped(("--web.config-file", config))
    details = {"processes": PROCESSES, "zones": 3, "page_mb": rounded(size / 1e6)}
    yield Figure("scrape_ms_10k", plain_ms, "ms of CPU", Bar(30), details)
    yield Figure("scrape_ms_10k_tls", tls_ms, "ms of CPU", Bar(60), details)
    yield Figure("rss_mb_10k", rss_mb, "MB", Bar(90), details)


def lateness() -> Iterator[Figure]:
    """How late the loop is while pages are read without a pause."""
    with watched("lateness", "--interval", "100ms", *LISTED) as watch, sleepers(PROCESSES):
        time.sleep(SETTLE_S)
        stop = threading.Event()
        readers = [
            threading.Thread(target=_read, args=(watch.exporter, stop)) for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        window = watch.collect(scaled(30))
        stop.set()
        for reader in readers:
            reader.join()
        late_ms = np.array(watch.numbers(window)) * 1000
    details = {"p50_ms": rounded(float(np.median(late_ms))), "worst_ms": rounded(late_ms.max())}
    p99_ms = float(np.percentile(late_ms, 99))
    yield Figure("lateness_under_scrape", p99_ms, "ms, p99", Bar(10), details)


def _scraped(arguments: tuple[str, ...]) -> tuple[float, float, int]:
    """Return the CPU ms of a page, the resident MB, and the size of a page."""
    with starting("--interval", "1s", *LISTED, *arguments) as exporter, sleepers(PROCESSES):
        time.sleep(SETTLE_S)
        size = len(_fetch(exporter))
        time.sleep(2 * PERIOD_S)
        idle = exporter.share(SCRAPES * PERIOD_S / 2)
        cpu_s, began_s = exporter.cpu_s(), time.monotonic()
        for _ in range(SCRAPES):
            _fetch(exporter)
            time.sleep(PERIOD_S)
        used_s = exporter.cpu_s() - cpu_s - idle * (time.monotonic() - began_s)
        return used_s / SCRAPES * 1000, exporter.memory().rss_mb, size


def _read(exporter: Exporter, stop: threading.Event) -> None:
    while not stop.is_set():
        _fetch(exporter)


def _fetch(exporter: Exporter) -> bytes:
    """Return the page, over TLS where that is spoken."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    token = base64.b64encode(f"{USER}:{USER}".encode()).decode()
    for secure in (True, False):
        connection = (
            http.client.HTTPSConnection(HOST, exporter.port, timeout=30, context=context)
            if secure
            else http.client.HTTPConnection(HOST, exporter.port, timeout=30)
        )
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Basic {token}"})
            return connection.getresponse().read()
        except ssl.SSLError:
            continue
        finally:
            connection.close()
    raise RuntimeError("the exporter speaks neither TLS nor HTTP")


@contextmanager
def web_config() -> Iterator[str]:
    """Give a web configuration with TLS and one user."""
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as folder:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        files = ("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem")
        subject = ("-subj", "/CN=localhost", "-days", "1")
        command = ("openssl", "req", "-x509", *key, *files, *subject)
        subprocess.run(command, check=True, capture_output=True)
        hashed = bcrypt.hashpw(USER.encode(), bcrypt.gensalt(COST)).decode()
        path = Path(folder, "web.yml")
        path.write_text(
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
            f"basic_auth_users: {{{USER}: {hashed}}}\n",
            encoding="ascii",
        )
        yield str(path)
