"""The fake meter for demonstrations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.meters.fake import MEAN_W, SWING, FakeMeter

SECOND_NS = 1_000_000_000


def test_default_zones_are_keplers() -> None:
    """Package, core and dram, as in Kepler."""
    assert [zone.kind for zone in FakeMeter().zones] == ["package", "core", "dram"]


def test_each_socket_has_its_zones_and_the_platform_is_one() -> None:
    """The platform's zone belongs to the node; every path is its own."""
    zones = FakeMeter(("package", "psys"), sockets=2).zones
    assert [(zone.kind, zone.socket) for zone in zones] == [
        ("package", 0), ("package", 1), ("psys", None),
    ]  # fmt: skip
    assert len({zone.path for zone in zones}) == 3


@given(steps_ns=st.lists(st.integers(1, 100 * SECOND_NS), min_size=1, max_size=20))
def test_power_stays_near_its_mean(steps_ns: list[int]) -> None:
    """Between any two readings the watts lie within the swing around the mean."""
    now_ns = 0
    meter = FakeMeter(("package",), clock=lambda: now_ns)
    last_uj = meter.read().energy_uj[0]
    for step_ns in steps_ns:
        now_ns += step_ns
        energy_uj = meter.read().energy_uj[0]
        watts = (energy_uj - last_uj) * 1e3 / step_ns
        assert watts == pytest.approx(MEAN_W["package"], rel=SWING, abs=1e-3 * SECOND_NS / step_ns)
        last_uj = energy_uj


def test_it_is_labelled_as_no_measurement() -> None:
    """Nobody takes a demonstration for a measurement."""
    assert FakeMeter().stats.is_estimate
