"""Names of energy zones: our kinds, and the names of the kernel's RAPL drivers.

The kernel calls them ``package-N``, ``package-N-die-M``, ``psys`` and ``psys-N`` at the top, and
``core``, ``uncore`` and ``dram`` below a package.
"""

from __future__ import annotations

import re

ZONE_KINDS = ("package", "core", "uncore", "dram", "psys")
"""Every kind, as metrics name it."""

_PACKAGE = re.compile(r"package-(\d+)(?:-die-\d+)?", re.ASCII)
_PSYS = re.compile(r"psys(?:-\d+)?", re.ASCII)


def kind_of(name: str) -> str | None:
    """Return the zone kind of a kernel's zone name; None where it is not one."""
    if _PACKAGE.fullmatch(name):
        return "package"
    if _PSYS.fullmatch(name):
        return "psys"
    return name if name in ZONE_KINDS else None


def package_of(name: str) -> int | None:
    """Return the physical package id in a kernel's name of a package or die; None for others."""
    match = _PACKAGE.fullmatch(name)
    return int(match[1]) if match else None
