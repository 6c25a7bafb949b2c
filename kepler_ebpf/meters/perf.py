"""The ``perf`` meter: the kernel's ``power`` PMU, which counts RAPL energy as perf events.

Events, their scale and the CPUs to open them on come from sysfs. The kernel keeps these counters
from wrapping. On virtual hosts the PMU can be present and count nothing.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.host.topology import parse_cpu_list
from kepler_ebpf.meters.counter_meter import Clock, CounterMeter, CounterZone, MeterRefusedError
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.perf_event import open_event
from kepler_ebpf.meters.powercap import BOUND_W
from kepler_ebpf.model.energy import UJ_PER_J, Zone

KINDS: Final = {
    "energy-pkg": "package",
    "energy-cores": "core",
    "energy-gpu": "uncore",
    "energy-ram": "dram",
    "energy-psys": "psys",
}
"""Our zone kind for each event of the PMU, in the order the zones are listed."""

REMEDY: Final = (
    "on hardware, load the driver (modprobe rapl) and run as root or with CAP_PERFMON; a virtual "
    "machine rarely has a power PMU that counts: use --meter estimate there"
)

_COUNT_BYTES: Final = 8
_EVENT = re.compile(r"event=(0x[0-9a-fA-F]+|\d+)")


class PerfCounter:
    """One event on one CPU, counting from zero; ``joules`` is the worth of one count.

    Reopening goes on from the last figure: what passed while it was closed is not known.
    """

    __slots__ = ("_config", "_cpu", "_fd", "_last_uj", "_offset_uj", "_type", "_uj")
    may_be_replaced = False

    def __init__(self, pmu_type: int, config: int, cpu: int, joules: float) -> None:
        self._type = pmu_type
        self._config = config
        self._cpu = cpu
        self._uj = joules * UJ_PER_J
        self._fd = -1
        self._offset_uj = 0.0
        self._last_uj = 0.0

    def read_uj(self) -> float:
        """Read the count; OSError when the event fails, ValueError when its CPU went away."""
        if self._fd < 0:
            self._fd = open_event(self._type, self._config, self._cpu)
        count = os.read(self._fd, _COUNT_BYTES)
        if len(count) != _COUNT_BYTES:
            raise ValueError(f"the event has left CPU {self._cpu}")
        self._last_uj = self._offset_uj + int.from_bytes(count, sys.byteorder) * self._uj
        return self._last_uj

    def close(self) -> None:
        """Close the event; the next read opens a new one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._offset_uj = self._last_uj


def open_perf(
    sysfs: str,
    socket_of: Mapping[int, int] | None = None,
    clock: Clock = time.monotonic_ns,
) -> CounterMeter:
    """Find the ``power`` PMU's events below ``sysfs``; MeterRefusedError when there is none.

    Nothing is opened before the first read. ``socket_of`` maps physical package ids to socket
    indexes; empty: they are the same.
    """
    pmu = Path(sysfs, "bus/event_source/devices/power")
    if not pmu.is_dir():
        raise MeterRefusedError(f"there is no power PMU in {pmu.parent}", REMEDY)
    try:
        parts = list(_parts(pmu, _sockets(Path(sysfs), pmu, socket_of or {})))
    except (OSError, ValueError) as error:
        raise MeterRefusedError(f"cannot use {pmu}: {error}", REMEDY) from error
    if not parts:
        raise MeterRefusedError(f"{pmu}/events names no energy event", REMEDY)
    return CounterMeter("perf", parts, clock)


def _parts(pmu: Path, sockets: Mapping[int, int | None]) -> Iterator[CounterZone]:
    pmu_type = int(read_regular(pmu / "type"))
    for event, kind in KINDS.items():
        path = pmu / "events" / event
        if not path.exists():
            continue
        match = _EVENT.search(read_regular(path))
        if match is None:
            raise ValueError(f"{path} names no event number")
        joules = float(read_regular(f"{path}.scale"))
        # The platform is one: every CPU shows the same psys counter.
        cpus = list(sockets)[:1] if kind == "psys" else list(sockets)
        for cpu in cpus:
            socket = None if kind == "psys" else sockets[cpu]
            zone = Zone(kind, socket, f"{path}:cpu{cpu}")
            source = PerfCounter(pmu_type, int(match[1], 0), cpu, joules)
            yield CounterZone(zone, source, EnergyCounter(math.inf, bound_w=BOUND_W[kind]))


def _sockets(sysfs: Path, pmu: Path, socket_of: Mapping[int, int]) -> dict[int, int | None]:
    """Give the socket of each CPU that the PMU names, one for each package or die."""
    packages = {cpu: _package(sysfs, cpu) for cpu in parse_cpu_list(read_regular(pmu / "cpumask"))}
    return {
        cpu: socket_of.get(package) if socket_of else package for cpu, package in packages.items()
    }


def _package(sysfs: Path, cpu: int) -> int:
    path = sysfs / f"devices/system/cpu/cpu{cpu}/topology/physical_package_id"
    return max(0, int(read_regular(path)))
