"""The ``fake`` meter, for demonstrations: smooth, plausible energy that measures nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from kepler_ebpf.meters.request import BusySource, MeterRequest, Wait
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, MeterReading, MeterStats, Zone

DEFAULT_KINDS: Final = ("package", "core", "dram")
MEAN_W: Final = {"package": 60.0, "core": 40.0, "uncore": 4.0, "dram": 8.0, "psys": 120.0}
SWING: Final = 0.25
"""How far the power swings around its mean; below 1, so that energy always grows."""
SWING_RAD_PER_S: Final = 2 * math.pi / 60


def open_meter(request: MeterRequest, _: BusySource, __: Wait) -> FakeMeter:
    """Open the fake meter; it works on every host."""
    return FakeMeter(request.fake_zones, len(request.cpus_per_socket))


class FakeMeter:
    """Counts energy of a power that swings around a fixed mean once a minute."""

    max_wait_s = math.inf

    def __init__(
        self,
        kinds: Sequence[str] = (),
        sockets: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start at zero with one zone of each kind for each socket; no kinds: the default ones."""
        self.zones = tuple(
            Zone(kind, socket, f"fake-cpu-meter/{kind}" + ("" if socket is None else f"-{socket}"))
            for kind in kinds or DEFAULT_KINDS
            for socket in ([None] if kind == "psys" else range(sockets))
        )
        self.stats = MeterStats("fake", is_estimate=True)
        self._mean_w = [MEAN_W[zone.kind] for zone in self.zones]
        self._valid = (True,) * len(self.zones)
        self._gaps = (0,) * len(self.zones)
        self._clock = clock
        self._start_ns = clock()

    def read(self) -> MeterReading:
        """Return the energy of the time that passed since the start."""
        passed_s = (self._clock() - self._start_ns) / NS_PER_S
        # The integral of 1 + SWING * sin(SWING_RAD_PER_S * t).
        swung_s = SWING * (1 - math.cos(SWING_RAD_PER_S * passed_s)) / SWING_RAD_PER_S
        uj_per_w = (passed_s + swung_s) * UJ_PER_J
        return MeterReading(
            tuple([mean_w * uj_per_w for mean_w in self._mean_w]), self._valid, self._gaps
        )

    def close(self) -> None:
        """Nothing is held open."""
