"""Sources of energy readings behind ``model.energy.Meter``: one module and one name here for each.

The module has the meter's name and one function, ``open_meter(request, busy, wait) -> Meter``
(types: ``meters.request``), which raises MeterRefusedError where the host does not offer the
meter. ``meters.choice`` imports it when it is needed. Nothing outside this room has meters' names.
"""

from __future__ import annotations

from typing import Final

AUTO: Final = "auto"
"""In place of a meter's name: the first meter that works."""

ESTIMATE: Final = "estimate"
"""The meter that works on every host."""

FAKE: Final = "fake"
"""The meter for demonstrations."""

MEASURING: Final = ("rapl", "perf")
"""The meters that read hardware, in the order in which the automatic choice tries them."""

METER_NAMES: Final = (*MEASURING, ESTIMATE, FAKE)

UNSUPPORTED_METERS = ("hwmon",)
"""Meters that Kepler has and kepler-ebpf lacks: allowed in lists, with a warning."""
