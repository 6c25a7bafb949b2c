"""rss_mb: resident memory after a minute beside 2,000 processes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.exporter import Memory, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import OURS, Checkout, sleepers, working

PROCESSES = 2_000
SECONDS = 60
SCRAPE_EVERY_S = 5


def measure() -> Iterator[Figure]:
    """Start 2,000 processes after the exporter, so that it lists them; with scrapes and without."""
    quiet, scraped = _after_a_minute(OURS, scrapes=False), _after_a_minute(OURS, scrapes=True)
    details: Details = {
        "loader": "core",
        "processes": PROCESSES,
        "scraped_every_5_s": _text(scraped),
        "never_scraped": _text(quiet),
    }
    yield Figure("rss_mb", max(quiet.rss_mb, scraped.rss_mb), "MB", Bar(55), details)


def sample(checkout: Checkout) -> dict[str, float]:
    """That of a checkout that is scraped."""
    return {"scraped_every_5_s": _after_a_minute(checkout, scrapes=True).rss_mb}


def _after_a_minute(checkout: Checkout, *, scrapes: bool) -> Memory:
    with (
        running("--interval", "1s", "--bpf-loader", "core", checkout=checkout) as exporter,
        working("duty", 5),
        sleepers(PROCESSES),
    ):
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            time.sleep(SCRAPE_EVERY_S)
            if scrapes:
                exporter.fetch()
        return exporter.memory()


def _text(memory: Memory) -> Details:
    return {"rss_mb": rounded(memory.rss_mb), "pss_mb": rounded(memory.pss_mb)}
