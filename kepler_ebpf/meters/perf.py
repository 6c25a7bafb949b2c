"""The ``perf`` meter: the kernel's ``power`` PMU, which counts RAPL energy as perf events.

Events, their scale and the CPUs to open them on come from sysfs. The kernel keeps these counters
from wrapping. On virtual hosts the PMU can be present and count nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from kepler_ebpf.host.perf_event import open_event
from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.host.topology import parse_cpu_list
from kepler_ebpf.meters.counter_meter import CounterMeter, open_counters
from kepler_ebpf.meters.counter_zone import BOUND_W, CounterSource, CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.request import BusySource, MeterRefusedError, MeterRequest, Wait
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


def open_meter(request: MeterRequest, busy: BusySource, wait: Wait) -> CounterMeter:
    """Open the ``power`` PMU's events; MeterRefusedError when there is none or none counts."""
    meter = CounterMeter("perf", find_counters(request), busy)
    return open_counters(meter, request.rapl_zones, wait, REMEDY)


def find_counters(request: MeterRequest) -> list[CounterZone]:
    """Find the PMU's energy events, still closed; MeterRefusedError when there is none."""
    pmu = Path(request.sysfs, "bus/event_source/devices/power")
    if not pmu.is_dir():
        raise MeterRefusedError(f"there is no power PMU in {pmu.parent}", REMEDY)
    try:
        zones = list(_counters(pmu, request))
    except (OSError, ValueError) as error:
        raise MeterRefusedError(f"cannot use {pmu}: {error}", REMEDY) from error
    if not zones:
        raise MeterRefusedError(f"{pmu}/events names no energy event", REMEDY)
    return zones


def _counters(pmu: Path, request: MeterRequest) -> Iterator[CounterZone]:
    cpus = _pmu_cpus(Path(request.sysfs), pmu)
    pmu_type = int(read_regular(pmu / "type"))
    for event, kind in KINDS.items():
        path = pmu / "events" / event
        if not path.exists():
            continue
        match = _EVENT.search(read_regular(path))
        if match is None:
            raise ValueError(f"{path} names no event number")
        read_fd = partial(_read_uj, float(read_regular(f"{path}.scale")) * UJ_PER_J)
        # The platform is one: every CPU shows the same psys counter.
        is_platform = kind == "psys"
        for cpu, package, name in cpus[:1] if is_platform else cpus:
            socket = None if is_platform else request.socket_of(package)
            open_it = partial(open_event, pmu_type, int(match[1], 0), cpu)
            yield CounterZone(
                zone=Zone(kind, socket, f"{path}:cpu{cpu}"),
                names={name if kind == "package" else kind},
                package=None if is_platform else package,
                source=CounterSource(open_it, read_fd, counts_from_opening=True),
                counter=EnergyCounter(bound_w=BOUND_W[kind]),
            )


def _pmu_cpus(sysfs: Path, pmu: Path) -> list[tuple[int, int, str]]:
    """Return the CPU that the PMU names of each package or die, the package, the kernel's name."""
    cpus = parse_cpu_list(read_regular(pmu / "cpumask"))
    topologies = [sysfs / f"devices/system/cpu/cpu{cpu}/topology" for cpu in cpus]
    packages = [max(0, int(read_regular(path / "physical_package_id"))) for path in topologies]
    named = []
    for index, (cpu, package) in enumerate(zip(cpus, packages, strict=True)):
        has_dies = packages.count(package) > 1
        die = f"-die-{packages[:index].count(package)}" if has_dies else ""
        named.append((cpu, package, f"package-{package}{die}"))
    return named


def _read_uj(uj: float, fd: int) -> float:
    count = os.read(fd, _COUNT_BYTES)
    if len(count) != _COUNT_BYTES:
        raise ValueError("the event has left its CPU")
    return int.from_bytes(count, sys.byteorder) * uj
