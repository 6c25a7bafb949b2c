"""`kepler-ebpf run` with a note taken at every interval, by a recorder inside the process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exporter import Exporter, running


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time on the monotonic clock, and the part of one CPU used in it."""

    began_s: float
    ended_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched exporter and the file its notes come in."""

    exporter: Exporter
    path: Path

    def collect(self, seconds: float) -> Window:
        """Let it run for so long."""
        return self.during(lambda: time.sleep(seconds))

    def during(self, work: Callable[[], None]) -> Window:
        """Let it run while *work* is done."""
        cpu_s, began_s = self.exporter.cpu_s(), time.monotonic()
        work()
        cpu_s, ended_s = self.exporter.cpu_s() - cpu_s, time.monotonic()
        return Window(began_s, ended_s, cpu_s / (ended_s - began_s))

    def numbers(self, window: Window) -> list[float]:
        """End the exporter and return what it noted in *window*."""
        self.exporter.stop()
        notes = json.loads(self.path.read_text("ascii"))
        return [number for at_s, number in notes if window.began_s <= at_s <= window.ended_s]


@contextmanager
def watched(what: str, *arguments: str) -> Iterator[Watch]:
    """Run an exporter that notes one thing about itself.

    *what* is its ``lateness`` in seconds, its ``hindrance`` by others in the process alone, or the
    CPU seconds that ``naming`` a process took.
    """
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as directory:
        path = Path(directory, "notes.json")
        program = ("-m", "benchmarks.recorder", what, str(path))
        # At its end it writes into a folder of ours.
        with running("--keep-privileges", *arguments, program=program) as exporter:
            yield Watch(exporter, path)
