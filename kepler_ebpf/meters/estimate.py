"""The ``estimate`` meter: idle and busy watts for each logical CPU, times what the CPUs did.

For hosts that show no energy counter, most virtual machines among them. The figures are labelled
as an estimate wherever they are shown: good for comparing workloads of one host, not for a bill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from kepler_ebpf.model.arrays import Bools, Ints
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, MeterReading, Zone

_UJ_PER_W_NS: Final = UJ_PER_J / NS_PER_S


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Watts of one logical CPU when idle and when busy, the rest of the package shared out."""

    idle_w: float
    busy_w: float


COEFFICIENTS: Final = {
    ("x86_64", "GenuineIntel"): Coefficients(0.7, 4.0),
    ("x86_64", "AuthenticAMD"): Coefficients(0.5, 2.0),
    ("aarch64", ""): Coefficients(0.5, 1.8),
}
"""By architecture and CPU vendor ("" for any): an order of magnitude for each logical CPU.

Source class: published whole-server power benchmarks of 2018 to 2023, idle and full-load power
divided by the server's hardware threads, rounded. A given part can be off by a factor of two.
"""

ANY: Final = Coefficients(0.6, 3.0)
"""For what the table does not list: between the listed ones, no better founded."""


@dataclass(frozen=True, slots=True)
class BusyTime:
    """Cumulative busy CPU time of each socket in ns, as of ``at_ns``."""

    at_ns: int
    busy_ns: tuple[int, ...]


BusySource = Callable[[], BusyTime]
"""Gives the latest account of CPU time; called once for each reading and once at the start."""


def coefficients_for(architecture: str, vendor: str) -> Coefficients:
    """Look up the figures for a machine (``x86_64``) and CPU vendor (``GenuineIntel``)."""
    anyone = COEFFICIENTS.get((architecture, ""), ANY)
    return COEFFICIENTS.get((architecture, vendor), anyone)


class EstimateMeter:
    """Models one package zone for each socket from the CPU time that was used on it."""

    name = "estimate"
    is_estimate = True
    max_wait_s = math.inf

    def __init__(
        self, busy: BusySource, cpus_per_socket: Sequence[int], coefficients: Coefficients
    ) -> None:
        """Start counting now. ``cpus_per_socket`` are logical CPUs, in socket order."""
        self._busy = busy
        self._busy_w = coefficients.busy_w - coefficients.idle_w
        self._idle_w = [coefficients.idle_w * cpus for cpus in cpus_per_socket]
        self._last = busy()
        self._total_uj = [0.0] * len(cpus_per_socket)
        self._valid: Bools = np.ones(len(cpus_per_socket), dtype=np.bool_)
        self._gaps: Ints = np.zeros(len(cpus_per_socket), dtype=np.int64)
        self.zones = tuple(
            Zone("package", socket, f"estimate/package-{socket}")
            for socket in range(len(cpus_per_socket))
        )

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Always empty: nothing is read from hardware."""
        return {}

    def read(self) -> MeterReading:
        """Add what the CPU time since the last reading is worth. Its time is the account's."""
        now, last = self._busy(), self._last
        self._last = now
        passed_ns = max(now.at_ns - last.at_ns, 0)
        for socket, (new_ns, old_ns) in enumerate(zip(now.busy_ns, last.busy_ns, strict=True)):
            # An account that restarts from zero is worth nothing, never less.
            spent = self._idle_w[socket] * passed_ns + self._busy_w * max(new_ns - old_ns, 0)
            self._total_uj[socket] += spent * _UJ_PER_W_NS
        return MeterReading(now.at_ns, np.array(self._total_uj), self._valid, self._gaps)

    def close(self) -> None:
        """Nothing is held open."""
