"""What a powercap tree offers: which directories are RAPL zones, of which socket, and their limits.

Names come from the kernel's RAPL drivers: ``package-N``, ``package-N-die-M``, ``psys`` or
``psys-N`` at the top; ``core``, ``uncore`` and ``dram`` below a package. AMD hosts show the same
tree with a package and a ``core`` zone; the latter is one core's counter, not the sum of all.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kepler_ebpf.host.regular_file import read_regular
from kepler_ebpf.model.energy import ZONE_KINDS, Zone

LOG = logging.getLogger(__name__)

DRIVERS: Final = ("intel-rapl", "intel-rapl-mmio")
"""In order of preference: both can show the same counter."""

BOUND_W: Final = {"package": 1500.0, "core": 1500.0, "uncore": 500.0, "dram": 800.0, "psys": 6000.0}
"""What one zone can draw at the very most, about three times the largest parts of 2026."""

HEADROOM: Final = 8
"""Short turbo peaks reach several times the sustained maximum that the constraints name."""

MIN_BOUND_W: Final = 100.0

_ENTRY = re.compile(r"(?P<driver>intel-rapl(?:-mmio)?):(?P<index>\d+)(?::(?P<sub>\d+))?")
_PACKAGE = re.compile(r"package-(\d+)(?:-die-\d+)?")
_PSYS = re.compile(r"psys(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class PowercapZone:
    """One RAPL zone: the kernel's name for it, its range and the most it can draw."""

    zone: Zone
    name: str
    wraps_at_uj: float
    bound_w: float

    @property
    def counter_path(self) -> Path:
        """The file with the counter."""
        return Path(self.zone.path, "energy_uj")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A zone's directory with the names read from it and its parent."""

    path: Path
    rank: tuple[int, int, int]
    name: str
    parent: str


def find_zones(sysfs: str, socket_of: Mapping[int, int]) -> list[PowercapZone]:
    """List the RAPL zones below a sysfs root, each counter once, in the kernel's order.

    ``socket_of`` maps a physical package id to our socket index; an empty one means they are the
    same. A zone of a package that is not in it belongs to the whole node. Never raises: what
    cannot be understood is logged and left out.
    """
    zones: dict[tuple[str, str], PowercapZone] = {}
    for entry in sorted(_entries(Path(sysfs, "class", "powercap")), key=lambda each: each.rank):
        key = entry.name, entry.parent
        if key in zones:
            LOG.info("%s duplicates %s: left out", entry.path, zones[key].zone.path)
        elif (found := _zone(entry, socket_of)) is not None:
            zones[key] = found
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


def _zone(entry: _Entry, socket_of: Mapping[int, int]) -> PowercapZone | None:
    kind = _kind(entry.name)
    if kind is None:
        LOG.info("%s is of an unknown kind, %r: left out", entry.path, entry.name)
        return None
    zone = Zone(kind, _socket(entry, socket_of), str(entry.path))
    wraps_at_uj = _read_number(entry.path / "max_energy_range_uj") or math.inf
    return PowercapZone(zone, entry.name, wraps_at_uj, _bound_w(entry.path, kind))


def _kind(name: str) -> str | None:
    if _PACKAGE.fullmatch(name):
        return "package"
    if _PSYS.fullmatch(name):
        return "psys"
    return name if name in ZONE_KINDS else None


def _socket(entry: _Entry, socket_of: Mapping[int, int]) -> int | None:
    match = _PACKAGE.fullmatch(entry.parent or entry.name)
    if match is None:
        return None
    package = int(match[1])
    if socket_of and package not in socket_of:
        LOG.warning("%s: no CPU of package %d is online", entry.path, package)
    return socket_of.get(package) if socket_of else package


def _bound_w(path: Path, kind: str) -> float:
    named_uw = [_read_number(file) or 0.0 for file in path.glob("constraint_*_max_power_uw")]
    most_w = max(named_uw, default=0.0) / 1e6
    if most_w <= 0:
        return BOUND_W[kind]
    return min(BOUND_W[kind], max(MIN_BOUND_W, HEADROOM * most_w))


def _read(path: Path) -> str | None:
    """Read a small attribute; None where it is absent, unreadable or empty."""
    try:
        return read_regular(path).strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _read_number(path: Path) -> float | None:
    text = _read(path)
    return float(text) if text is not None and text.isdigit() else None
