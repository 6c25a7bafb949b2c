"""The choice of a run's meter: the one that is named, or the first that works; and why others fail.

Loads the meters' modules by their names. A new meter needs no change here.
"""

from __future__ import annotations

import importlib
import logging
import time
from dataclasses import dataclass, replace

from kepler_ebpf.errors import SetupError
from kepler_ebpf.meters import AUTO, ESTIMATE, FAKE, MEASURING, estimate
from kepler_ebpf.meters.request import (
    BusySource,
    BusyTime,
    MeterRefusedError,
    MeterRequest,
    Wait,
    ZonesUnavailableError,
)
from kepler_ebpf.model.energy import Meter, Zone

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeterProbe:
    """Result of trying one meter on this host.

    ``remedy`` is empty where the meter is available. ``is_required`` means that a run refuses to
    start without it.
    """

    name: str
    available: bool
    detail: str
    remedy: str
    is_required: bool = False


def open_meter(request: MeterRequest, busy: BusySource, wait: Wait = time.sleep) -> Meter:
    """Open the meter that is named; ``auto`` takes the first that works, else the estimate.

    ``wait`` passes the time in which counters must move: 25 ms for one that moves, 0.1 s where a
    zone is at rest, 0.4 s for one that does not. Raises SetupError where the
    meter does not work here or has none of the zones of ``rapl.zones``.
    """
    if request.meter == AUTO:
        return _first_working(request, busy, wait)
    try:
        return _open(request.meter, request, busy, wait)
    except MeterRefusedError as error:
        problem = f"the {request.meter} meter does not work here: {error.problem}"
        raise SetupError(problem, error.remedy) from error


def probe_meters(request: MeterRequest, wait: Wait = time.sleep) -> list[MeterProbe]:
    """Try every meter that measures, and describe the estimate; leaves nothing open."""
    probes = [_probe(name, request, wait) for name in MEASURING]
    if any(probe.available for probe in probes) or not set(_order(request)) <= set(MEASURING):
        # Automatic choice has a meter, and needs no other.
        probes = [replace(probe, is_required=probe.name == request.meter) for probe in probes]
    detail = estimate.describe(request)
    return [*probes, MeterProbe(ESTIMATE, available=True, detail=detail, remedy="")]


def _probe(name: str, request: MeterRequest, wait: Wait) -> MeterProbe:
    idle, is_named = BusyTime(0, (0,) * len(request.cpus_per_socket)), name == request.meter
    try:
        meter = _open(name, request, lambda: idle, wait)
    except MeterRefusedError as error:
        blocks_auto = request.meter == AUTO and isinstance(error, ZonesUnavailableError)
        return MeterProbe(name, False, error.problem, error.remedy, is_named or blocks_auto)
    meter.close()
    return MeterProbe(name, True, _describe(meter.zones), "", is_named)


def _first_working(request: MeterRequest, busy: BusySource, wait: Wait) -> Meter:
    unmet: ZonesUnavailableError | None = None
    for name in _order(request):
        try:
            meter = _open(name, request, busy, wait)
        except ZonesUnavailableError as error:
            LOG.warning("%s", error.problem)
            unmet = error
        except MeterRefusedError as error:
            LOG.info("the %s meter does not work here: %s", name, error.problem)
        else:
            LOG.info("using the %s meter: %s", name, _describe(meter.zones))
            return meter
    if unmet is not None:
        # Counters work here: an estimate of other zones is no replacement for them.
        raise SetupError(unmet.problem, unmet.remedy)
    LOG.warning("no energy counter works here: all energy is an estimate from CPU use")
    return _open(ESTIMATE, request, busy, wait)


def _order(request: MeterRequest) -> tuple[str, ...]:
    """Return the meters that automatic choice tries."""
    first = (FAKE,) if request.fake_enabled else ()
    return tuple(dict.fromkeys((*first, *request.preferred_meters, *MEASURING)))


def _open(name: str, request: MeterRequest, busy: BusySource, wait: Wait) -> Meter:
    module = importlib.import_module(f"kepler_ebpf.meters.{name}")
    meter: Meter = module.open_meter(request, busy, wait)
    return meter


def _describe(zones: tuple[Zone, ...]) -> str:
    return ", ".join(
        zone.kind if zone.socket is None else f"{zone.kind} (socket {zone.socket})"
        for zone in zones
    )
