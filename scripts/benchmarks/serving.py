"""What readers cost: a page of 10,000 processes, with and without gzip, TLS and a password.

``scrape_ms_10k`` is CPU time of the exporter for each page, less what it uses without readers.
``lateness_under_scrape`` is how late ticks of 100 ms are beside four readers without a pause.
"""

from __future__ import annotations

import http.client
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import bcrypt
import numpy as np

from benchmarks.exporter import CREDENTIALS, HOST, USER, starting
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
BCRYPT_COST = 10


def measure() -> Iterator[Figure]:
    """The cost of a page, and the memory that is held for it."""
    rss_mb = 0.0
    with web_config() as config:
        for suffix, config_file, encoding, bar_ms in (
            ("", "", "identity", 30),
            ("_gzip", "", "gzip", 30),
            ("_tls", config, "identity", 60),
            ("_tls_gzip", config, "gzip", 60),
        ):
            cost_ms, held_mb, size = _scraped(config_file, encoding)
            rss_mb = max(rss_mb, held_mb)
            details = {"processes": PROCESSES, "zones": 3, "sent_mb": rounded(size / 1e6)}
            yield Figure(f"scrape_ms_10k{suffix}", cost_ms, "ms of CPU", Bar(bar_ms), details)
    yield Figure("rss_mb_10k", rss_mb, "MB", Bar(90), {"processes": PROCESSES})


def lateness() -> Iterator[Figure]:
    """How late the loop is while pages are read without a pause."""
    with watched("lateness", "--interval", "100ms", *LISTED) as watch, sleepers(PROCESSES):
        time.sleep(SETTLE_S)
        stop = threading.Event()
        readers = [
            threading.Thread(target=_read, args=(watch.exporter.port, stop)) for _ in range(READERS)
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


def _scraped(config_file: str, encoding: str) -> tuple[float, float, int]:
    """Return the CPU ms of a page, the resident MB, and the size of a page as it is sent."""
    arguments = ("--web.config-file", config_file) if config_file else ()
    with starting("--interval", "1s", *LISTED, *arguments) as exporter, sleepers(PROCESSES):
        time.sleep(SETTLE_S)
        dial = partial(connect, exporter.port, secure=bool(config_file))
        size = len(fetch(dial(), encoding))
        time.sleep(2 * PERIOD_S)
        idle = exporter.share(SCRAPES * PERIOD_S / 2)
        cpu_s, began_s = exporter.cpu_s(), time.monotonic()
        for _ in range(SCRAPES):
            fetch(dial(), encoding)
            time.sleep(PERIOD_S)
        used_s = exporter.cpu_s() - cpu_s - idle * (time.monotonic() - began_s)
        return used_s / SCRAPES * 1000, exporter.memory().rss_mb, size


def _read(port: int, stop: threading.Event) -> None:
    while not stop.is_set():
        fetch(connect(port, secure=False), "identity")


def connect(port: int, *, secure: bool) -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    if not secure:
        return http.client.HTTPConnection(HOST, port, timeout=30)
    return http.client.HTTPSConnection(HOST, port, timeout=30, context=trusting())


def trusting() -> ssl.SSLContext:
    """Return a context that trusts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def fetch(connection: http.client.HTTPConnection, encoding: str) -> bytes:
    """Return the page as it was sent."""
    headers = {**CREDENTIALS, "Accept-Encoding": encoding}
    try:
        connection.request("GET", "/metrics", headers=headers)
        return connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def web_config(*, secure: bool = True) -> Iterator[str]:
    """Give a web configuration with one user, and with TLS if it is *secure*."""
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as folder:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        files = ("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem")
        subject = ("-subj", "/CN=localhost", "-days", "1")
        command = ("openssl", "req", "-x509", *key, *files, *subject)
        subprocess.run(command, check=True, capture_output=True)
        hashed = bcrypt.hashpw(USER.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()
        tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n" if secure else ""
        path = Path(folder, "web.yml")
        path.write_text(f"{tls}basic_auth_users: {{{USER}: {hashed}}}\n", encoding="ascii")
        yield str(path)
