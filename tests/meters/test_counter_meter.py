"""Counters that fail and come back, by what kind of source they have."""

import pytest

from kepler_ebpf.meters.counter_meter import CounterMeter, CounterZone
from kepler_ebpf.meters.energy_counter import EnergyCounter
from kepler_ebpf.model.energy import Zone


class Source:
    """A counter that a test sets, and that fails where it has no figure."""

    def __init__(self, *, may_be_replaced: bool) -> None:
        self.may_be_replaced = may_be_replaced
        self.energy_uj: float | None = 1e6

    def read_uj(self) -> float:
        if self.energy_uj is None:
            raise OSError("it fails")
        return self.energy_uj

    def close(self) -> None:
        pass


@pytest.mark.parametrize("may_be_replaced", [True, False])
def test_what_counts_from_its_opening_has_a_gap_after_a_failure(*, may_be_replaced: bool) -> None:
    """A file goes on counting while it is closed, an event does not."""
    source = Source(may_be_replaced=may_be_replaced)
    counter = EnergyCounter(bound_w=1e9)
    meter = CounterMeter("m", [CounterZone(Zone("package", 0, "/p"), source, counter)])
    before = meter.read()
    source.energy_uj = None
    assert not meter.read().valid[0]
    source.energy_uj = 3e6
    after = meter.read()
    assert after.valid[0]
    gained_uj = after.energy_uj[0] - before.energy_uj[0]
    assert (gained_uj, after.gaps[0] > before.gaps[0]) == (
        (2e6, False) if may_be_replaced else (0, True)
    )
