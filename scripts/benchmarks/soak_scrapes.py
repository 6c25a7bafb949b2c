"""soak_scrapes: memory and counters over many scrapes while processes are born and end.

Once with every process listed, and once with the few that use most. Every counter of every page is
held against the page before, and against what its series was when it was last seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.exporter import Exporter, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.processes import working

SCRAPES = 20_000
BIRTHS_PER_S, LIFE_S = 50, 0.3
TOP_N = 50
WARM_UP = 0.3
"""Part of the scrapes in which the memory may grow."""

RSS_EVERY = 20
MAX_EXAMPLES = 10
OPTIONS = (
    *("--meter", "fake", "--interval", "100ms", "--terminated-retention", "5s"),
    *("--log.level", "error"),
)


@dataclass
class Counters:
    """The counters of the pages so far."""

    fallen: int = 0
    back_lower: int = 0
    examples: list[str] = field(default_factory=list)
    series: int = 0
    _page: dict[str, float] = field(default_factory=dict)
    _ever: dict[str, float] = field(default_factory=dict)

    def take(self, page: str) -> None:
        """Hold each counter of a page against what it was."""
        samples = (line.rpartition(" ") for line in page.split("\n") if line and line[0] != "#")
        now = {key: float(value) for key, _, value in samples if _is_counter(key)}
        for key, value in now.items():
            if value < self._ever.get(key, value):
                was_there = key in self._page
                self.fallen += was_there
                self.back_lower += not was_there
                if len(self.examples) < MAX_EXAMPLES:
                    self.examples.append(f"{key}: {self._ever[key]} to {value}")
        self.series = max(self.series, len(now))
        self._page = now
        self._ever |= now


def measure() -> Iterator[Figure]:
    """Scrape as fast as it answers, with and without a limit."""
    for name, options in (("", ()), ("_top_n", ("--process-top-n", str(TOP_N)))):
        with (
            working("starts", BIRTHS_PER_S, LIFE_S),
            running(*OPTIONS, *options) as exporter,
        ):
            yield _scraped(f"soak_scrapes{name}", exporter)


def _scraped(name: str, exporter: Exporter) -> Figure:
    counters, rss_mb, began_s = Counters(), [], time.monotonic()
    scrapes = int(scaled(SCRAPES))
    for number in range(scrapes):
        counters.take(exporter.fetch())
        if number % RSS_EVERY == 0:
            rss_mb.append(exporter.memory().rss_mb)
    page = exporter.scrape()
    after = rss_mb[int(len(rss_mb) * WARM_UP) :]
    failed = page.total("kepler_ebpf_failed_intervals_total")
    details = {
        "scrapes": scrapes,
        "seconds": rounded(time.monotonic() - began_s),
        "births_per_s": BIRTHS_PER_S,
        "counters_on_a_page_max": counters.series,
        "fallen": counters.fallen,
        "back_lower": counters.back_lower,
        "examples": counters.examples,
        "failed_intervals": failed,
        "rss_mb_at_warm_up": rounded(after[0]),
        "rss_mb_max": rounded(max(after)),
    }
    growth = 100 * (max(after) / after[0] - 1)
    is_sound = not (counters.fallen or failed)
    return Figure(name, growth, "% more memory", Bar(5), details, also=is_sound)


def _is_counter(series: str) -> bool:
    return series.partition("{")[0].endswith("_total")
