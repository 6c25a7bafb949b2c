"""The ``rapl`` meter: RAPL energy counters as the kernel's powercap drivers show them in sysfs."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import Final

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.meters.counter_meter import Clock, CounterMeter, CounterZone, MeterRefusedError
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.powercap import PowercapZone, find_zones

REMEDY: Final = (
    "on hardware, load the driver (modprobe intel_rapl_msr) and run as root, since energy_uj is "
    "readable by root only; a virtual machine rarely has RAPL: use --meter estimate there"
)

_MAX_NUMBER_BYTES: Final = 32


class CounterFile:
    """One ``energy_uj`` file, kept open between readings."""

    __slots__ = ("_fd", "_path")
    may_be_replaced = True

    def __init__(self, path: str) -> None:
        """Name the file; the first read opens it."""
        self._path = path
        self._fd = -1

    def read_uj(self) -> int:
        """Read the counter; OSError when it cannot be read, ValueError when it is not a number."""
        if self._fd < 0:
            self._fd = open_regular(self._path)
        text = os.pread(self._fd, _MAX_NUMBER_BYTES, 0).strip()
        if not text.isdigit():
            message = f"not a number: {text!r}" if text else "empty"
            raise ValueError(message)
        return int(text)

    def close(self) -> None:
        """Close the file; the next read opens whatever is at the path then."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_rapl(
    sysfs: str,
    wanted: Collection[str] = (),
    socket_of: Mapping[int, int] | None = None,
    clock: Clock = time.monotonic_ns,
) -> CounterMeter:
    """Open the RAPL zones below ``sysfs``; MeterRefusedError when there is none.

    ``wanted`` keeps only these kinds (``package``) or kernel names (``package-1``); empty: all.
    ``socket_of`` maps physical package ids to socket indexes; empty: they are the same.
    """
    found = find_zones(sysfs, socket_of or {})
    if not found:
        detail = f"there is no RAPL zone in {sysfs}/class/powercap"
        raise MeterRefusedError(detail, REMEDY)
    return CounterMeter("rapl", [_part(zone) for zone in _only(found, wanted)], clock)


def _only(found: list[PowercapZone], wanted: Collection[str]) -> list[PowercapZone]:
    if not wanted:
        return found
    names = {name.lower() for name in wanted}
    kept = [each for each in found if {each.zone.kind, each.name} & names]
    if not kept:
        has = ", ".join(sorted({each.name for each in found}))
        detail = f"no RAPL zone is named in rapl.zones ({', '.join(wanted)})"
        raise MeterRefusedError(detail, f"name some of those this host has: {has}")
    return kept


def _part(found: PowercapZone) -> CounterZone:
    source = CounterFile(str(found.counter_path))
    return CounterZone(found.zone, source, EnergyCounter(found.wraps_at_uj, bound_w=found.bound_w))
