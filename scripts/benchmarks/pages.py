"""pages_per_interval: how much memory one interval touches, which is what it costs on a cold host.

By the kernel's own marks: all are cleared, and one interval later those set are counted. Windows
have the length of an interval and begin at ever other phases of it, so that each has one interval
in it, and the work that comes only every few seconds is in as many of them as it should be.

A process that ends marks the pages of the files it had mapped for all others, so the exporter gets
copies of its own. What is left is exact but for two things. Reading the marks takes some
milliseconds more of the window. And a mapping with huge and small pages has one sum for both: as
many huge ones as fit in it are taken as touched; each that was not hides 511 small ones.
"""

from __future__ import annotations

import re
import shlex
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.exporter import running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import OURS, Checkout, sleepers

INTERVAL_S = 1.0
INTERVAL = ("--interval", f"{INTERVAL_S:g}s")
PHASE_S = 0.07
WINDOWS = 20
SETTLE_S = 13.0
"""Processes that were there before have their names by then."""

MAPS_PATH_COLUMN = 73
KB_PER_PAGE, KB_PER_HUGE_PAGE = 4, 2048
HUGE = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n((?:[A-Z].*\n)*)", re.MULTILINE)
_SIZE = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)


def measure() -> Iterator[Figure]:
    """Beside 100 processes that sleep, and beside 2,000 that wake every five seconds."""
    yield _figure("pages_per_interval", _windows(OURS, 100), Bar(700))
    yield _figure("pages_per_interval_2000", _windows(OURS, 2_000, 5.0), Bar(900))


def sample(checkout: Checkout) -> dict[str, float]:
    """Median and mean of a checkout, beside the same two."""
    beside = {"100_asleep": _windows(checkout, 100), "2000_waking": _windows(checkout, 2_000, 5.0)}
    return {
        f"{name}_{what}": how([window.total() for window in windows])
        for name, windows in beside.items()
        for what, how in (("median", statistics.median), ("mean", statistics.mean))
    }


def _windows(checkout: Checkout, count: int, wake_every_s: float = 0) -> list[Counter[str]]:
    """Count the pages by kind of mapping in each window; nobody scrapes meanwhile."""
    with (
        sleepers(count, wake_every_s),
        _own_files(checkout) as within,
        running(*INTERVAL, checkout=checkout, within=within) as exporter,
    ):
        time.sleep(SETTLE_S)
        return [_window(exporter.pid) for _ in range(WINDOWS)]


@contextmanager
def _own_files(checkout: Checkout) -> Iterator[list[str]]:
    """Give a command that has copies mounted over the files that an exporter maps."""
    with running(*INTERVAL, checkout=checkout) as exporter:
        maps = Path(f"/proc/{exporter.pid}/maps").read_text("utf-8").splitlines()
    paths = {path for line in maps if Path(path := line[MAPS_PATH_COLUMN:]).is_file()}
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as directory:
        mounts = []
        for number, path in enumerate(sorted(paths)):
            copy = shutil.copy(path, f"{directory}/{number}")
            mounts.append(f"mount --bind {shlex.quote(copy)} {shlex.quote(path)}")
        script = " && ".join([*mounts, 'exec "$@"'])
        yield ["unshare", "--mount", "sh", "-c", script, "sh"]


def _window(pid: int) -> Counter[str]:
    time.sleep(PHASE_S)
    Path(f"/proc/{pid}/clear_refs").write_text("1", "ascii")
    time.sleep(INTERVAL_S)
    return referenced_pages(Path(f"/proc/{pid}/smaps").read_text("utf-8"))


def referenced_pages(smaps: str) -> Counter[str]:
    """Pages that are marked, by kind of mapping; a huge one counts as one."""
    pages: Counter[str] = Counter()
    for name, text in _MAPPING.findall(smaps):
        sizes = {field: int(kb) for field, kb in _SIZE.findall(text)}
        referenced, huge_kb = sizes["Referenced"], sum(sizes.get(field, 0) for field in HUGE)
        huge = min(referenced, huge_kb) // KB_PER_HUGE_PAGE
        small = (referenced - huge * KB_PER_HUGE_PAGE) // KB_PER_PAGE
        pages[_kind(name)] += small
        pages["huge"] += huge
    return pages


def _kind(name: str) -> str:
    """Say what a mapping is for by what it maps."""
    if not name:
        return "anonymous"
    if "/numpy" in name:
        return "numpy"
    if name == "[heap]":
        return "heap"
    return "interpreter" if "python" in Path(name).name else "other"


def _figure(name: str, windows: list[Counter[str]], bar: Bar) -> Figure:
    totals = [window.total() for window in windows]
    kinds = sorted(set().union(*windows))
    details: Details = {
        "mean": rounded(statistics.mean(totals)),
        "least": min(totals),
        "most": max(totals),
        "median_by_mapping": {
            kind: statistics.median(window[kind] for window in windows) for kind in kinds
        },
        "mean_by_mapping": {
            kind: rounded(statistics.mean(window[kind] for window in windows)) for kind in kinds
        },
        "windows": len(windows),
    }
    return Figure(name, statistics.median(totals), "pages", bar, details)
