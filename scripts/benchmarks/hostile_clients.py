"""What clients that are not let in cost: idle TLS connections, and a flood of wrong passwords.

``idle_tls_mb`` is the most memory that 500 connections add, which come within the time that a head
may take; the server keeps as many of them as it has places. ``wrong_passwords`` is the slowest of
the scrapes of a good client, beside a thousand wrong passwords a second from several addresses.
"""

from __future__ import annotations

import base64
import itertools
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.exporter import HOST, KB_PER_MB, START_S, USER, Exporter, starting
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.serving import connect, fetch, trusting, web_config
from benchmarks.watched import watched

CLIENTS, SOURCES = 500, 20
WARM_UP = 30
SETTLE_S = 3.0
GUESSES_PER_S, GUESSERS = 1000, 8
FLOOD_S = 30.0
SCRAPE_EVERY_S = 1.0
TIMEOUT_S = 30.0
OPEN_GUESSES = 14
"""Of one address: all together stay below the places there are."""

GUESS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %s\r\n\r\n"


def idle_tls() -> Iterator[Figure]:
    """Connections that send nothing, and those that end their handshake and send nothing more."""
    for name, shakes_hands in (("idle_tls_mb", True), ("idle_tls_mb_silent", False)):
        with web_config() as config, starting("--web.config-file", config) as exporter:
            _await_tls(exporter)
            for _ in range(WARM_UP):
                _scrape_ms(exporter)
            time.sleep(SETTLE_S)
            before_mb, files = exporter.memory().rss_mb, _files(exporter)
            Path(f"/proc/{exporter.pid}/clear_refs").write_text("5", "ascii")
            with ExitStack() as held:
                for number in range(CLIENTS):
                    source = f"127.0.2.{number % SOURCES + 1}"
                    held.enter_context(_idle(exporter.port, source, shakes_hands=shakes_hands))
                kept = _files(exporter) - files
                scrape_ms = _scrape_ms(exporter)
            added_mb = exporter.peak_mb() - before_mb
        details = {
            "clients": CLIENTS,
            "kept": kept,
            "kb_each": rounded(added_mb * KB_PER_MB / max(kept, 1)),
            "scrape_ms": rounded(scrape_ms),
        }
        yield Figure(name, added_mb, "MB", Bar(10), details)


def wrong_passwords() -> Iterator[Figure]:
    """The slowest scrape beside the flood, what that costs, and how late the loop is."""
    with web_config(secure=False) as config:
        arguments = ("--interval", "100ms", "--meter", "fake", "--web.config-file", config)
        with watched("lateness", *arguments) as watch:
            quiet = watch.collect(scaled(FLOOD_S) / 3)
            statuses: Counter[bytes] = Counter()
            scrapes: list[float] = []
            with _guessing(watch.exporter.port, statuses):
                window = watch.during(lambda: scrapes.extend(_scrapes(watch.exporter)))
            quiet_ms = np.array(watch.numbers(quiet)) * 1000
            late_ms = np.array(watch.numbers(window)) * 1000
    details = {
        "answers_per_s": rounded(statuses.total() / (window.ended_s - window.began_s)),
        "statuses": {status.decode(): count for status, count in statuses.items()},
        "scrapes": len(scrapes),
        "median_ms": rounded(float(np.median(scrapes))),
        "cpu_share": rounded(window.share),
        "quiet_cpu_share": rounded(quiet.share),
        "late_p99_ms": rounded(float(np.percentile(late_ms, 99))),
        "late_worst_ms": rounded(late_ms.max()),
        "quiet_late_p99_ms": rounded(float(np.percentile(quiet_ms, 99))),
    }
    yield Figure("wrong_passwords", max(scrapes), "ms", Bar(1000), details)


def _await_tls(exporter: Exporter) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s:
        with suppress(OSError):
            _scrape_ms(exporter)
            return
        time.sleep(0.05)
    raise RuntimeError("it does not serve TLS: see its log above")


def _scrape_ms(exporter: Exporter) -> float:
    began_s = time.monotonic()
    fetch(connect(exporter.port, secure=True), "gzip")
    return (time.monotonic() - began_s) * 1000


def _files(exporter: Exporter) -> int:
    return len(list(Path(f"/proc/{exporter.pid}/fd").iterdir()))


def _idle(port: int, source: str, *, shakes_hands: bool) -> socket.socket:
    """Return a connection that sends no request."""
    client = socket.create_connection((HOST, port), TIMEOUT_S, (source, 0))
    if not shakes_hands:
        return client
    return trusting().wrap_socket(client)


def _scrapes(exporter: Exporter) -> Iterator[float]:
    """Scrape once a second; yield what each took, in ms."""
    end_s = time.monotonic() + scaled(FLOOD_S)
    while (began_s := time.monotonic()) < end_s:
        exporter.fetch()
        yield (time.monotonic() - began_s) * 1000
        time.sleep(max(0.0, began_s + SCRAPE_EVERY_S - time.monotonic()))


@contextmanager
def _guessing(port: int, statuses: Counter[bytes]) -> Iterator[None]:
    """Have passwords guessed from several addresses; *statuses* are those of the answers."""
    stop = threading.Event()
    guessers = [
        threading.Thread(target=_guess, args=(port, f"127.0.2.{number}", statuses, stop))
        for number in range(1, GUESSERS + 1)
    ]
    for guesser in guessers:
        guesser.start()
    try:
        yield
    finally:
        stop.set()
        for guesser in guessers:
            guesser.join()


def _guess(port: int, source: str, statuses: Counter[bytes], stop: threading.Event) -> None:
    """Send guesses at their times, whether those before are answered or not."""
    period_s, due_s = GUESSERS / GUESSES_PER_S, time.monotonic()
    sent: deque[socket.socket] = deque()
    for number in itertools.count():
        if stop.wait(max(0.0, due_s - time.monotonic())):
            break
        due_s += period_s
        client = socket.create_connection((HOST, port), TIMEOUT_S, (source, 0))
        token = base64.b64encode(f"{USER}:{source}-{number}".encode())
        client.sendall(GUESS % token)
        client.setblocking(False)
        sent.append(client)
        if len(sent) > OPEN_GUESSES:
            with suppress(OSError), sent.popleft() as oldest:
                statuses[oldest.recv(64)[9:12]] += 1
    for client in sent:
        client.close()
