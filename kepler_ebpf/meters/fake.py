"""The ``fake`` meter, for demonstrations: smooth, plausible figures that measure nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from kepler_ebpf.errors import ConfigError
from kepler_ebpf.meters.counter_meter import Clock
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, ZONE_KINDS, MeterReading, Zone

DEFAULT_KINDS: Final = ("package", "core", "dram")
MEAN_W: Final = {"package": 60.0, "core": 40.0, "uncore": 4.0, "dram": 8.0, "psys": 120.0}
SWING: Final = 0.25
"""How far the power swings around its mean; below 1, so that energy always grows."""
SWING_RAD_PER_S: Final = 2 * math.pi / 60


class FakeMeter:
    """Counts energy of a power that swings around a fixed mean once a minute."""

    name = "fake"
    is_estimate = True
    max_wait_s = math.inf

    def __init__(
        self, kinds: Sequence[str] = (), sockets: int = 1, clock: Clock = time.monotonic_ns
    ) -> None:
        """Start at zero with one zone of each kind for each socket; no kinds: the default ones.

        Raises ConfigError for a kind that does not exist.
        """
        kinds = kinds or DEFAULT_KINDS
        for kind in kinds:
            if kind not in ZONE_KINDS:
                allowed = ", ".join(ZONE_KINDS)
                raise ConfigError(
                    f"dev.fake-cpu-meter.zones: {kind!r} is no zone\nname some of {allowed}"
                )
        self.zones = tuple(
            Zone(kind, socket, f"fake-cpu-meter/{kind}" + ("" if socket is None else f"-{socket}"))
            for kind in kinds
            for socket in ([None] if kind == "psys" else range(sockets))
        )
        self._mean_w = np.array([MEAN_W[zone.kind] for zone in self.zones])
        self._valid = np.ones(len(self.zones), np.bool_)
        self._gaps = np.zeros(len(self.zones), np.int64)
        self._clock = clock
        self._start_ns = clock()

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Always empty."""
        return {}

    def read(self) -> MeterReading:
        """Give the energy of the time that passed since the start."""
        now_ns = self._clock()
        passed_s = (now_ns - self._start_ns) / NS_PER_S
        # The integral of 1 + SWING * sin(SWING_RAD_PER_S * t).
        swung_s = SWING * (1 - math.cos(SWING_RAD_PER_S * passed_s)) / SWING_RAD_PER_S
        energy_uj = self._mean_w * ((passed_s + swung_s) * UJ_PER_J)
        return MeterReading(now_ns, energy_uj, self._valid, self._gaps)

    def close(self) -> None:
        """Nothing is held open."""
