"""Which meter a run uses: the one asked for, or the first that works; and why others do not."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.meters.counter_meter import CounterMeter, MeterRefusedError, Wait
from kepler_ebpf.meters.estimate import BusySource, EstimateMeter, coefficients_for
from kepler_ebpf.meters.fake import FakeMeter
from kepler_ebpf.meters.perf import REMEDY as PERF_REMEDY
from kepler_ebpf.meters.perf import open_perf
from kepler_ebpf.meters.rapl import REMEDY as RAPL_REMEDY
from kepler_ebpf.meters.rapl import open_rapl
from kepler_ebpf.model.energy import Meter, Zone

LOG = logging.getLogger(__name__)

METER_NAMES: Final = ("auto", "rapl", "perf", "estimate", "fake")
MEASURING: Final = ("rapl", "perf")
"""The meters that read hardware, in order of preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRequest:
    """What is wanted and what the host is.

    ``meter`` is one of METER_NAMES. ``preferred_meters`` go before the default order in ``auto``;
    those we do not have are passed over. ``rapl_zones`` and ``fake_zones``: empty means all, or
    the default ones. ``package_ids`` are the physical package ids and ``cpus_per_socket`` the
    logical CPUs, both in socket order.
    """

    package_ids: tuple[int, ...]
    cpus_per_socket: tuple[int, ...]
    cpu_vendor: str = ""
    cpu_architecture: str = field(default_factory=platform.machine)
    meter: str = "auto"
    preferred_meters: tuple[str, ...] = ()
    sysfs: str = "/sys"
    rapl_zones: tuple[str, ...] = ()
    fake_enabled: bool = False
    fake_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeterProbe:
    """What one meter offers on this host; ``remedy`` is empty where it is available."""

    name: str
    available: bool
    detail: str
    remedy: str


def open_meter(request: MeterRequest, busy: BusySource, wait: Wait = time.sleep) -> Meter:
    """Open the meter that is asked for; ``auto`` takes the first that works, else the estimate.

    ``busy`` feeds the estimate. ``wait`` passes the time of the probe that sees counters move:
    25 ms on a healthy host, 0.1 s where a zone is dead. Raises SetupError when the meter that was
    asked for by name does not work here, ConfigError when there is none of that name.
    """
    if request.meter not in METER_NAMES:
        allowed = ", ".join(METER_NAMES)
        raise ConfigError(f"there is no meter {request.meter!r}\nuse one of {allowed}")
    if request.meter == "auto":
        return _first_working(request, busy, wait)
    try:
        return _open(request.meter, request, busy, wait)
    except MeterRefusedError as error:
        message = f"the {request.meter} meter does not work here: {error.detail}\n{error.remedy}"
        raise SetupError(message) from error


def probe_meters(request: MeterRequest, wait: Wait = time.sleep) -> list[MeterProbe]:
    """Try every meter that measures, and tell what the estimate would do; leaves nothing open."""
    probes = [_probe(name, request, wait) for name in MEASURING]
    figures = coefficients_for(request.cpu_architecture, request.cpu_vendor)
    detail = (
        f"{figures.idle_w} W idle to {figures.busy_w} W busy for each logical CPU of "
        f"{request.cpu_architecture} {request.cpu_vendor}".rstrip()
    )
    return [*probes, MeterProbe("estimate", available=True, detail=detail, remedy="")]


def _first_working(request: MeterRequest, busy: BusySource, wait: Wait) -> Meter:
    for name in _order(request):
        try:
            meter = _open(name, request, busy, wait)
        except MeterRefusedError as error:
            LOG.info("the %s meter does not work here: %s", name, error.detail)
        else:
            LOG.info("using the %s meter: %s", name, _describe(meter.zones))
            return meter
    LOG.warning("no energy counter works here: every figure is an estimate from CPU use")
    return _open("estimate", request, busy, wait)


def _order(request: MeterRequest) -> Iterator[str]:
    if request.fake_enabled:
        yield "fake"
    known = [name for name in request.preferred_meters if name in METER_NAMES[1:]]
    yield from dict.fromkeys([*known, *MEASURING])


def _open(name: str, request: MeterRequest, busy: BusySource, wait: Wait) -> Meter:
    if name == "estimate":
        figures = coefficients_for(request.cpu_architecture, request.cpu_vendor)
        return EstimateMeter(busy, request.cpus_per_socket, figures)
    if name == "fake":
        return FakeMeter(request.fake_zones, len(request.cpus_per_socket))
    return _open_measuring(name, request, wait)


def _open_measuring(name: str, request: MeterRequest, wait: Wait) -> CounterMeter:
    socket_of = {package: socket for socket, package in enumerate(request.package_ids)}
    if name == "rapl":
        meter, remedy = open_rapl(request.sysfs, request.rapl_zones, socket_of), RAPL_REMEDY
    else:
        meter, remedy = open_perf(request.sysfs, socket_of), PERF_REMEDY
    try:
        meter.prove(wait, remedy)
    except MeterRefusedError:
        meter.close()
        raise
    return meter


def _probe(name: str, request: MeterRequest, wait: Wait) -> MeterProbe:
    try:
        meter = _open_measuring(name, request, wait)
    except MeterRefusedError as error:
        return MeterProbe(name, available=False, detail=error.detail, remedy=error.remedy)
    meter.close()
    return MeterProbe(name, available=True, detail=_describe(meter.zones), remedy="")


def _describe(zones: tuple[Zone, ...]) -> str:
    return ", ".join(
        zone.kind if zone.socket is None else f"{zone.kind} (socket {zone.socket})"
        for zone in zones
    )
