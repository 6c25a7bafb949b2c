"""Energy meters behind one interface (``model.Meter``), and the choice among them."""

from kepler_ebpf.meters.counter_meter import MeterRefusedError
from kepler_ebpf.meters.estimate import BusySource, BusyTime
from kepler_ebpf.meters.registry import (
    METER_NAMES,
    MeterProbe,
    MeterRequest,
    open_meter,
    probe_meters,
)

__all__ = [
    "METER_NAMES",
    "BusySource",
    "BusyTime",
    "MeterProbe",
    "MeterRefusedError",
    "MeterRequest",
    "open_meter",
    "probe_meters",
]
