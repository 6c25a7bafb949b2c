"""The ``estimate`` meter: idle and busy watts of each logical CPU, times its idle and busy time.

For hosts that show no energy counter, most virtual machines among them. The energy is labelled as
an estimate wherever it is shown: good for comparing workloads of one host, not for a bill.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Final

from kepler_ebpf.meters.request import BusySource, MeterRequest, Wait
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, MeterReading, MeterStats, Zone

LOG = logging.getLogger(__name__)

_UJ_PER_W_NS: Final = UJ_PER_J / NS_PER_S


Coefficients = tuple[float, float]
"""Watts of one logical CPU when idle and when busy, the rest of the package shared out."""

COEFFICIENTS: Final[dict[tuple[str, str], Coefficients]] = {
    ("x86_64", "GenuineIntel"): (0.7, 4.0),
    ("x86_64", "AuthenticAMD"): (0.5, 2.0),
    ("aarch64", ""): (0.5, 1.8),
}
"""By architecture and CPU vendor ("" for any): an order of magnitude for each logical CPU.

Source class: published whole-server power benchmarks of 2018 to 2023, idle and full-load power
divided by the server's hardware threads, rounded. A given part can be off by a factor of two.
"""

ANY: Final = (0.6, 3.0)
"""For CPUs that the table does not list: between the listed ones, no better founded."""


def open_meter(request: MeterRequest, busy: BusySource, _: Wait) -> EstimateMeter:
    """Open the estimate; it works on every host."""
    absent = [name for name in request.rapl_zones if name.lower() != "package"]
    if absent:
        LOG.warning("rapl.zones: the estimate has no zone %s, only package", ", ".join(absent))
    figures = coefficients_for(request.cpu_architecture, request.cpu_vendor)
    return EstimateMeter(busy, request.cpus_per_socket, figures)


def describe(request: MeterRequest) -> str:
    """Return the watts that the estimate would use on this host, in words."""
    idle_w, busy_w = coefficients_for(request.cpu_architecture, request.cpu_vendor)
    return (
        f"{idle_w} W idle to {busy_w} W busy for each logical CPU of "
        f"{request.cpu_architecture} {request.cpu_vendor}".rstrip()
    )


def coefficients_for(architecture: str, vendor: str) -> Coefficients:
    """Look up the figures for a machine (``x86_64``) and CPU vendor (``GenuineIntel``)."""
    return COEFFICIENTS.get((architecture, vendor)) or COEFFICIENTS.get((architecture, ""), ANY)


class EstimateMeter:
    """Models one package zone for each socket from the CPU time that was used on it."""

    max_wait_s = math.inf

    def __init__(
        self, busy: BusySource, cpus_per_socket: Sequence[int], coefficients: Coefficients
    ) -> None:
        """Start counting now. ``cpus_per_socket`` are logical CPUs, in socket order."""
        self._busy = busy
        idle_w, busy_w = coefficients
        self._busy_w = busy_w - idle_w
        self._idle_w = [idle_w * cpus for cpus in cpus_per_socket]
        self._last = busy()
        self._total_uj = [0.0] * len(cpus_per_socket)
        self._valid = (True,) * len(cpus_per_socket)
        self._gaps = (0,) * len(cpus_per_socket)
        self.stats = MeterStats("estimate", is_estimate=True)
        self.zones = tuple(
            Zone("package", socket, f"estimate/package-{socket}")
            for socket in range(len(cpus_per_socket))
        )

    def read(self) -> MeterReading:
        """Add the energy of the CPU time since the last reading."""
        now, last = self._busy(), self._last
        self._last = now
        passed_ns = max(now.at_ns - last.at_ns, 0)
        for socket, (new_ns, old_ns) in enumerate(zip(now.busy_ns, last.busy_ns, strict=True)):
            # Busy time that restarts from zero adds nothing, never less.
            spent = self._idle_w[socket] * passed_ns + self._busy_w * max(new_ns - old_ns, 0)
            self._total_uj[socket] += spent * _UJ_PER_W_NS
        return MeterReading(tuple(self._total_uj), self._valid, self._gaps)

    def close(self) -> None:
        """Nothing is held open."""
