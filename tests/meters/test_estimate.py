"""The estimate: watts from CPU time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meter_requests import Cpus

from kepler_ebpf.meters.estimate import ANY, EstimateMeter, coefficients_for


@pytest.fixture
def cpus() -> Cpus:
    """Return CPU time of two sockets that have run for a while."""
    cpus = Cpus(sockets=2)
    cpus.work(3, socket=0)
    cpus.work(2, socket=1)
    return cpus


@pytest.fixture
def meter(cpus: Cpus) -> EstimateMeter:
    """Return a meter of two sockets with 4 and 2 CPUs, 1 W idle and 3 W busy each."""
    return EstimateMeter(cpus, (4, 2), (1.0, 3.0))


def test_one_package_zone_for_each_socket(meter: EstimateMeter) -> None:
    """The estimate knows packages and nothing below."""
    assert [(zone.kind, zone.socket) for zone in meter.zones] == [("package", 0), ("package", 1)]


def test_it_is_labelled_as_an_estimate(meter: EstimateMeter) -> None:
    """Exporters label the energy by this."""
    assert meter.stats.is_estimate


def test_first_reading_is_zero(meter: EstimateMeter) -> None:
    """CPU time from before the start is not counted."""
    assert meter.read().energy_uj == (0, 0)


def test_idle_cpus_draw_idle_watts(meter: EstimateMeter, cpus: Cpus) -> None:
    """Ten idle seconds of four and of two CPUs."""
    cpus.work(10, share=0)
    assert meter.read().energy_uj == pytest.approx((40e6, 20e6))


def test_busy_time_draws_the_difference_on_its_socket(meter: EstimateMeter, cpus: Cpus) -> None:
    """Five busy CPU seconds on socket 1 add 2 W each there."""
    cpus.work(10, share=0.5, socket=1)
    assert meter.read().energy_uj == pytest.approx((40e6, 30e6))


def test_cpu_time_that_restarts_takes_nothing_back(meter: EstimateMeter, cpus: Cpus) -> None:
    """CPU time that falls is worth nothing, and counting goes on."""
    cpus.busy_ns = [0, 0]
    assert meter.read().energy_uj == (0, 0)
    cpus.busy_ns = [1_000_000_000] * 2
    assert meter.read().energy_uj == pytest.approx((2e6, 2e6))


@given(steps=st.lists(st.tuples(st.integers(0, 10**10), st.floats(0, 1)), max_size=20))
def test_readings_sum_to_the_same_energy_however_often_they_are_taken(
    steps: list[tuple[int, float]],
) -> None:
    """Many readings or one: the same joules."""
    cpus = Cpus()
    often, once = (EstimateMeter(cpus, (2,), ANY) for _ in range(2))
    last_uj = 0.0
    for passed_ns, share in steps:
        cpus.work(passed_ns / 1e9, 2 * share)
        energy_uj = often.read().energy_uj[0]
        assert energy_uj >= last_uj
        last_uj = energy_uj
    assert last_uj == pytest.approx(once.read().energy_uj[0])


@pytest.mark.parametrize(
    ("architecture", "vendor"),
    [("x86_64", "GenuineIntel"), ("x86_64", "AuthenticAMD"), ("aarch64", "0x41")],
)
def test_known_cpus_have_figures_of_their_own(architecture: str, vendor: str) -> None:
    """The table has rows by architecture and vendor, or by architecture alone."""
    assert coefficients_for(architecture, vendor) is not ANY


def test_unknown_cpu_has_a_default() -> None:
    """No host is left without an estimate."""
    assert coefficients_for("riscv64", "") is ANY
    assert coefficients_for("x86_64", "Unheard") is ANY
