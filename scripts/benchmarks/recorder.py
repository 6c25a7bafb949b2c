"""Notes about a run: `python -m benchmarks.recorder WHAT FILE run ARGUMENT...`.

The exporter is the real one, with one of its parts replaced by the same part that also takes
notes. The notes are written to FILE in JSON when it ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np

from kepler_ebpf.cli import main as kepler_ebpf
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.loop.ticker import Tick, Ticker
from kepler_ebpf.meters import BusyTime, MeterRequest, open_meter
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import Meter, MeterReading
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.names.resolver import NameResolver
from kepler_ebpf.wiring import run

NOTES: list[tuple[float, float]] = []
"""What was noted, and when on the monotonic clock."""


class NotingTicker(Ticker):
    """Notes how late each tick of the grid comes."""

    def __iter__(self) -> Iterator[Tick]:
        for tick in super().__iter__():
            if not (tick.extra or tick.rest or tick.rung):
                _note(self._figure(tick))
            yield tick

    def _figure(self, tick: Tick) -> float:
        return tick.lateness_s


class HinderedTicker(NotingTicker):
    """Notes how late each tick comes, less what the loop's thread had waited for a CPU.

    What is left is what others in the process did to it: who holds the interpreter.
    """

    _waited_s = 0.0

    def _figure(self, tick: Tick) -> float:
        waited_s = int(Path("/proc/thread-self/schedstat").read_text("ascii").split()[1]) / 1e9
        for_cpu_s, self._waited_s = waited_s - self._waited_s, waited_s
        return max(0.0, tick.lateness_s - for_cpu_s)


class NotingPublisher(Publisher):
    """Notes which part of what the meter gave is neither with a task, nor idle, nor nobody's."""

    _nobody_uj: float | Floats = 0.0

    def publish(self, snapshot: Snapshot) -> None:
        """Note it, then publish."""
        node = snapshot.node
        kinds = np.array([[zone.kind == kind for kind in snapshot.kinds] for zone in node.zones])
        nobody_uj = node.unattributed_uj - self._nobody_uj
        self._nobody_uj = node.unattributed_uj
        placed_uj = snapshot.task_uj.sum(axis=0) + (node.interval_idle_uj + nobody_uj) @ kinds
        drawn_uj = (READINGS[-1] - READINGS[-2]) @ kinds
        _note(float(np.max(np.abs(placed_uj - drawn_uj) / np.maximum(drawn_uj, 1.0))))
        super().publish(snapshot)


class NotingNaming(NameResolver):
    """Notes the CPU time of naming a process."""

    def process(self, tgid: int, start_ns: int, comm: str, cgroup: CgroupName) -> ProcessName:
        """Name it, and note what that took."""
        began_s = time.thread_time()
        name = super().process(tgid, start_ns, comm, cgroup)
        _note(time.thread_time() - began_s)
        return name


READINGS: list[Floats] = []
"""The energy by zone in each reading of the meter."""


def open_noted_meter(request: MeterRequest, busy: Callable[[], BusyTime]) -> Meter:
    """Open the meter, and note its readings from the baseline on."""
    meter = open_meter(request, busy)
    read = meter.read

    def noted() -> MeterReading:
        reading = read()
        READINGS.append(reading.energy_uj.copy())
        return reading

    patch.object(meter, "read", noted).start()
    return meter


def _note(number: float) -> None:
    NOTES.append((time.monotonic(), number))


PARTS: dict[str, dict[str, object]] = {
    "hindrance": {"Ticker": HinderedTicker},
    "lateness": {"Ticker": NotingTicker},
    "naming": {"NameResolver": NotingNaming},
    "residual": {"Publisher": NotingPublisher, "open_meter": open_noted_meter},
}
"""What replaces which part of the exporter."""


def main() -> None:
    """Run with the part replaced, and write the notes however it ends."""
    what, path, *arguments = sys.argv[1:]
    try:
        for name, part in PARTS[what].items():
            patch.object(run, name, part).start()
        kepler_ebpf(arguments)
    finally:
        Path(path).write_text(json.dumps(NOTES), "ascii")


if __name__ == "__main__":
    main()
