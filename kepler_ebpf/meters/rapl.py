"""The ``rapl`` meter: RAPL energy counters as the kernel's powercap drivers show them in sysfs.

See ``zone_names`` for the kernel's names. AMD hosts show the same tree with a package and a
``core`` zone; the latter is one core's counter, not the sum of all.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from kepler_ebpf.host.regular_file import open_regular, read_regular
from kepler_ebpf.meters.counter_meter import CounterMeter, open_counters
from kepler_ebpf.meters.counter_zone import BOUND_W, CounterSource, CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.meters.request import BusySource, MeterRefusedError, MeterRequest, Wait
from kepler_ebpf.meters.zone_names import kind_of, package_of
from kepler_ebpf.model.energy import Zone

LOG = logging.getLogger(__name__)

REMEDY: Final = (
    "on hardware, load the driver (modprobe intel_rapl_msr) and run as root, since energy_uj is "
    "readable by root only; a virtual machine rarely has RAPL: use --meter estimate there"
)

DRIVERS: Final = ("intel-rapl", "intel-rapl-mmio")
"""In order of preference: both can show the same counter."""

HEADROOM: Final = 8
"""Short turbo peaks reach several times the sustained maximum that the constraints name."""

MIN_BOUND_W: Final = 100.0
MAX_NUMBER_BYTES: Final = 32

_ENTRY = re.compile(r"(intel-rapl(?:-mmio)?):(\d+)(?::(\d+))?")


def open_meter(request: MeterRequest, busy: BusySource, wait: Wait) -> CounterMeter:
    """Open the RAPL zones; MeterRefusedError when there is none or none moves."""
    meter = CounterMeter("rapl", find_counters(request), busy)
    return open_counters(meter, request.rapl_zones, wait, REMEDY)


def find_counters(request: MeterRequest) -> list[CounterZone]:
    """Find the counters of the powercap tree, still closed, each once, in the kernel's order.

    A directory that cannot be understood is logged and left out. Raises MeterRefusedError where
    there is no counter.
    """
    tree = Path(request.sysfs, "class", "powercap")
    zones: dict[tuple[str, str], CounterZone] = {}
    for _, path, name, parent in sorted(_entries(tree)):
        if (name, parent) in zones:
            LOG.info("%s is another name of %s: left out", path, zones[name, parent].zone.path)
        elif (zone := _zone(path, name, parent, request)) is not None:
            zones[name, parent] = zone
    if not zones:
        raise MeterRefusedError(f"there is no RAPL zone in {tree}", REMEDY)
    return list(zones.values())


def _entries(tree: Path) -> Iterator[tuple[tuple[int, int, int], Path, str, str]]:
    """Yield each zone's rank, directory, own name and its parent's, "" at the top."""
    for path in tree.glob("intel-rapl*:*"):
        match = _ENTRY.fullmatch(path.name)
        if match is None:
            continue
        driver, index, sub = match.groups()
        name = _read(path / "name")
        parent = "" if sub is None else _read(tree / f"{driver}:{index}" / "name")
        if name is None or parent is None:
            LOG.warning("%s has no readable name: left out", path)
            continue
        yield (DRIVERS.index(driver), int(index), int(sub or -1)), path, name, parent


def _zone(path: Path, name: str, parent: str, request: MeterRequest) -> CounterZone | None:
    kind = kind_of(name)
    if kind is None:
        LOG.info("%s is of an unknown kind, %r: left out", path, name)
        return None
    package = package_of(parent or name)
    socket = None if package is None else request.socket_of(package)
    if package is not None and socket is None:
        LOG.warning("%s: no CPU of package %d is online", path, package)
    wraps_at_uj = _read_number(path / "max_energy_range_uj") or math.inf
    open_file = partial(open_regular, path / "energy_uj")
    return CounterZone(
        zone=Zone(kind, socket, str(path)),
        names={name},
        package=package,
        source=CounterSource(open_file, _read_uj, counts_from_opening=False),
        counter=EnergyCounter(wraps_at_uj, bound_w=_bound_w(path, kind)),
    )


def _bound_w(path: Path, kind: str) -> float:
    named_uw = [_read_number(file) or 0.0 for file in path.glob("constraint_*_max_power_uw")]
    max_w = max(named_uw, default=0.0) / 1e6
    if max_w <= 0:
        return BOUND_W[kind]
    return min(BOUND_W[kind], max(MIN_BOUND_W, HEADROOM * max_w))


def _read(path: Path) -> str | None:
    """Read a small attribute; None where it is absent, unreadable or empty."""
    try:
        return read_regular(path).strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _read_number(path: Path) -> float | None:
    text = _read(path)
    return float(text) if text is not None and text.isdigit() else None


def _read_uj(fd: int) -> int:
    text = os.pread(fd, MAX_NUMBER_BYTES, 0).strip()
    if not text.isdigit():
        raise ValueError(f"not a number: {text!r}" if text else "empty")
    return int(text)
