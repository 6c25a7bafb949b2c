"""The ``rapl`` meter: RAPL energy counters as the kernel's powercap drivers show them in sysfs."""

from __future__ import annotations

import os
from typing import Final

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.meters.counter_meter import CounterMeter, open_counters
from kepler_ebpf.meters.counter_zone import CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.powercap import find_zones
from kepler_ebpf.meters.request import BusySource, MeterRefusedError, MeterRequest, Wait

REMEDY: Final = (
    "on hardware, load the driver (modprobe intel_rapl_msr) and run as root, since energy_uj is "
    "readable by root only; a virtual machine rarely has RAPL: use --meter estimate there"
)

MAX_NUMBER_BYTES: Final = 32


def open_meter(request: MeterRequest, busy: BusySource, wait: Wait) -> CounterMeter:
    """Open the RAPL zones; MeterRefusedError when there is none or none moves."""
    meter = CounterMeter("rapl", find_counters(request), busy)
    return open_counters(meter, request.rapl_zones, wait, REMEDY)


def find_counters(request: MeterRequest) -> list[CounterZone]:
    """Find the counters of the powercap tree, still closed; MeterRefusedError for none."""
    found = find_zones(request.sysfs, request.socket_of)
    if not found:
        problem = f"there is no RAPL zone in {request.sysfs}/class/powercap"
        raise MeterRefusedError(problem, REMEDY)
    return [
        CounterZone(
            zone=item.zone,
            names={item.name},
            package=item.package,
            source=CounterFile(f"{item.zone.path}/energy_uj"),
            counter=EnergyCounter(item.wraps_at_uj, bound_w=item.bound_w),
        )
        for item in found
    ]


class CounterFile:
    """One ``energy_uj`` file, kept open between readings."""

    __slots__ = ("_fd", "_path")
    counts_from_opening = False

    def __init__(self, path: str) -> None:
        """Name the file; the first read opens it."""
        self._path = path
        self._fd = -1

    def read_uj(self) -> int:
        """Read the counter; OSError when it cannot be read, ValueError when it is not a number."""
        if self._fd < 0:
            self._fd = open_regular(self._path)
        text = os.pread(self._fd, MAX_NUMBER_BYTES, 0).strip()
        if not text.isdigit():
            raise ValueError(f"not a number: {text!r}" if text else "empty")
        return int(text)

    def close(self) -> None:
        """Close the file; the next read opens the file that has this path then."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
