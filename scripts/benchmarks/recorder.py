"""Notes about a run: `python -m benchmarks.recorder WHAT FILE VERB ARGUMENT...`.

The exporter is the real one, with its ticker or its naming replaced by one that also takes notes.
The notes are written to FILE in JSON when it ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from unittest.mock import patch

from kepler_ebpf.cli import main as kepler_ebpf
from kepler_ebpf.loop.ticker import Tick, Ticker, Wake
from kepler_ebpf.model.names import ExecEvent, ProcessIdentity, ProcessName
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.names.naming import HostNaming
from kepler_ebpf.wiring import run, top

T = TypeVar("T")

NOTES: list[tuple[float, float]] = []
"""What was noted, and when on the monotonic clock."""


class NotingTicker(Ticker):
    """Notes how late each end of an interval comes."""

    def __iter__(self) -> Iterator[Tick]:
        for tick in super().__iter__():
            if tick.wake is Wake.INTERVAL:
                _note(self._figure(tick))
            yield tick

    def _figure(self, tick: Tick) -> float:
        return tick.lateness_s


class HinderedTicker(NotingTicker):
    """Notes how late each comes, less what the loop's thread had waited for a CPU.

    What is left is what others in the process did to it: who holds the interpreter.
    """

    _waited_s = 0.0

    def _figure(self, tick: Tick) -> float:
        waited_s = int(Path("/proc/thread-self/schedstat").read_text("ascii").split()[1]) / 1e9
        for_cpu_s, self._waited_s = waited_s - self._waited_s, waited_s
        return max(0.0, tick.lateness_s - for_cpu_s)


class NotingNaming(HostNaming):
    """Notes the CPU time of naming a process, with what else naming took since the last note."""

    _used_s = 0.0

    def process(self, identity: ProcessIdentity) -> ProcessName:
        """Name it, and note what that took."""
        name = self._timed(lambda: super(NotingNaming, self).process(identity))
        _note(self._used_s)
        self._used_s = 0.0
        return name

    def learn_execs(self, events: Iterable[ExecEvent]) -> None:
        """Take in execs."""
        self._timed(lambda: super(NotingNaming, self).learn_execs(events))

    def work(self, remaining_s: Callable[[], float]) -> None:
        """Read names that wait."""
        self._timed(lambda: super(NotingNaming, self).work(remaining_s))

    def _timed(self, do: Callable[[], T]) -> T:
        began_s = time.thread_time()
        result = do()
        self._used_s += time.thread_time() - began_s
        return result


def _note(number: float) -> None:
    NOTES.append((time.monotonic(), number))


class NotingBatch(top._Batch):  # noqa: SLF001  what prints has no name of its own
    """Notes the CPU time of making the lines of an interval."""

    def render(self, snapshot: Snapshot) -> str:
        """Make them."""
        began_s = time.thread_time()
        text = super().render(snapshot)
        _note(time.thread_time() - began_s)
        return text


PARTS: dict[str, tuple[ModuleType, str, type]] = {
    "batch": (top, "_Batch", NotingBatch),
    "hindrance": (run, "Ticker", HinderedTicker),
    "lateness": (run, "Ticker", NotingTicker),
    "naming": (run, "HostNaming", NotingNaming),
}
"""What replaces which part of the exporter."""


def main() -> None:
    """Run with the part replaced, and write the notes however it ends."""
    what, path, *arguments = sys.argv[1:]
    try:
        with patch.object(*PARTS[what]):
            kepler_ebpf(arguments)
    finally:
        Path(path).write_text(json.dumps(NOTES), "ascii")


if __name__ == "__main__":
    main()
