"""Energy meters behind one interface (``model.Meter``), and the choice among them."""

from kepler_ebpf.meters.choose import (
    METER_NAMES,
    MeterProbe,
    MeterRequest,
    open_meter,
    probe_meters,
)
from kepler_ebpf.meters.counted import MeterRefusedError
from kepler_ebpf.meters.estimate import BusySource, BusyTime

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
