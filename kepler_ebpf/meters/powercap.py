"""The RAPL zones of a powercap tree: their directories, sockets and limits.

See ``zone_names`` for the kernel's names. AMD hosts show the same tree with a package and a
``core`` zone; the latter is one core's counter, not the sum of all.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.meters.zone_names import kind_of, package_of
from kepler_ebpf.model.energy import Zone

LOG = logging.getLogger(__name__)

DRIVERS: Final = ("intel-rapl", "intel-rapl-mmio")
"""In order of preference: both can show the same counter."""

BOUND_W: Final = {"package": 1500.0, "core": 1500.0, "uncore": 500.0, "dram": 800.0, "psys": 6000.0}
"""Highest power of one zone, about three times that of the largest parts of 2026."""

HEADROOM: Final = 8
"""Short turbo peaks reach several times the sustained maximum that the constraints name."""

MIN_BOUND_W: Final = 100.0

_ENTRY = re.compile(r"(?P<driver>intel-rapl(?:-mmio)?):(?P<index>\d+)(?::(?P<sub>\d+))?")


@dataclass(frozen=True, slots=True)
class PowercapZone:
    """One RAPL zone: kernel name, package id (None: the platform), range and highest power."""

    zone: Zone
    name: str
    package: int | None
    wraps_at_uj: float
    bound_w: float


@dataclass(frozen=True, slots=True)
class _Entry:
    """A zone's directory with its own name and its parent's, "" at the top."""

    path: Path
    rank: tuple[int, int, int]
    name: str
    parent: str


def find_zones(sysfs: str, socket_of: Callable[[int], int | None]) -> list[PowercapZone]:
    """List the RAPL zones below a sysfs root, each name once, in the kernel's order.

    ``socket_of`` returns the socket index of a physical package id. Where that is None the zone
    belongs to the whole node. Never raises: a directory that cannot be understood is logged and
    left out.
    """
    zones: dict[tuple[str, str], PowercapZone] = {}
    for entry in sorted(_entries(Path(sysfs, "class", "powercap")), key=lambda item: item.rank):
        key = entry.name, entry.parent
        if key in zones:
            LOG.info("%s is another name of %s: left out", entry.path, zones[key].zone.path)
        elif (zone := _zone(entry, socket_of)) is not None:
            zones[key] = zone
    return list(zones.values())


def _entries(tree: Path) -> Iterator[_Entry]:
    try:
        paths = list(tree.iterdir())
    except OSError:
        return
    for path in paths:
        match = _ENTRY.fullmatch(path.name)
        if match is None:
            continue
        sub = match["sub"]
        name, parent = _read(path / "name"), ""
        if sub is not None:
            parent = _read(tree / f"{match['driver']}:{match['index']}" / "name") or "?"
        if name is None or parent == "?":
            LOG.warning("%s has no readable name: left out", path)
            continue
        rank = DRIVERS.index(match["driver"]), int(match["index"]), int(sub or -1)
        yield _Entry(path, rank, name, parent)


def _zone(entry: _Entry, socket_of: Callable[[int], int | None]) -> PowercapZone | None:
    kind = kind_of(entry.name)
    if kind is None:
        LOG.info("%s is of an unknown kind, %r: left out", entry.path, entry.name)
        return None
    package = package_of(entry.parent or entry.name)
    socket = None if package is None else socket_of(package)
    if package is not None and socket is None:
        LOG.warning("%s: no CPU of package %d is online", entry.path, package)
    return PowercapZone(
        zone=Zone(kind, socket, str(entry.path)),
        name=entry.name,
        package=package,
        wraps_at_uj=_read_number(entry.path / "max_energy_range_uj") or math.inf,
        bound_w=_bound_w(entry.path, kind),
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
