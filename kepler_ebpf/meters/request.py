"""What a meter is opened with, and its refusal."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field

from kepler_ebpf.errors import SetupError
from kepler_ebpf.meters import AUTO

Wait = Callable[[float], None]
"""Waits for a number of seconds."""


@dataclass(frozen=True, slots=True)
class BusyTime:
    """Cumulative busy CPU time of each socket in ns, as of ``at_ns``."""

    at_ns: int
    busy_ns: tuple[int, ...]


BusySource = Callable[[], BusyTime]
"""Returns the CPU time up to the last closed interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRequest:
    """The configuration's wishes and the host's CPUs.

    ``meter`` is a name of ``METER_NAMES`` or ``auto``, which tries ``preferred_meters`` first.
    ``rapl_zones`` are kinds (``package``) or kernel names (``package-1``), all where it is empty;
    ``fake_zones`` are kinds, the default ones where it is empty. ``package_ids`` are the physical
    package ids and ``cpus_per_socket`` the logical CPUs, both in socket order.
    """

    package_ids: tuple[int, ...]
    cpus_per_socket: tuple[int, ...]
    cpu_vendor: str = ""
    cpu_architecture: str = field(default_factory=platform.machine)
    meter: str = AUTO
    preferred_meters: tuple[str, ...] = ()
    sysfs: str = "/sys"
    rapl_zones: tuple[str, ...] = ()
    fake_enabled: bool = False
    fake_zones: tuple[str, ...] = ()

    def socket_of(self, package: int) -> int | None:
        """Return the socket index of a physical package; None where no CPU of it is online."""
        return self.package_ids.index(package) if package in self.package_ids else None


class MeterRefusedError(SetupError):
    """This host does not offer the meter."""


class ZonesUnavailableError(MeterRefusedError):
    """The meter works, but none of the zones that ``rapl.zones`` names."""
