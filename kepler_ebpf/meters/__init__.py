"""Sources of energy readings behind ``model.energy.Meter``: one module and one line here for each.

The module has the meter's name and one function, ``open_meter(request, busy, wait) -> Meter``
(types: ``meters.request``), which raises MeterRefusedError where the host does not offer the
meter. ``meters.choice`` imports it when it is needed. Nothing outside this room has meters' names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class MeterEntry:
    """A meter: its name, which is its module's too, and whether it reads hardware."""

    name: str
    measures: bool = False


AUTO: Final = "auto"
"""In place of a meter's name: the first meter that works."""

ESTIMATE: Final = "estimate"
"""The meter that works on every host."""

FAKE: Final = "fake"
"""The meter for demonstrations."""

METERS: Final = (
    MeterEntry("rapl", measures=True),
    MeterEntry("perf", measures=True),
    MeterEntry(ESTIMATE),
    MeterEntry(FAKE),
)
"""Every meter. Automatic choice tries those that measure, in this order."""

METER_NAMES: Final = tuple(meter.name for meter in METERS)
