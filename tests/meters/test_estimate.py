"""The estimate: watts from CPU time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.meters import BusyTime
from kepler_ebpf.meters.estimate import ANY, Coefficients, EstimateMeter, coefficients_for

SECOND_NS = 1_000_000_000


class Account:
    """CPU time that a test sets."""

    def __init__(self, sockets: int) -> None:
        self.at_ns = 5 * SECOND_NS
        self.busy_ns = np.full(sockets, 3 * SECOND_NS, dtype=np.int64)

    def __call__(self) -> BusyTime:
        """Give the account as it is now."""
        return BusyTime(self.at_ns, tuple(self.busy_ns.tolist()))


@pytest.fixture
def account() -> Account:
    """Give an account of two sockets."""
    return Account(2)


@pytest.fixture
def meter(account: Account) -> EstimateMeter:
    """Give a meter of two sockets with 4 and 2 CPUs, 1 W idle and 3 W busy each."""
    return EstimateMeter(account, (4, 2), Coefficients(idle_w=1.0, busy_w=3.0))


def test_one_package_zone_for_each_socket(meter: EstimateMeter) -> None:
    """The estimate knows packages and nothing below."""
    assert [(zone.kind, zone.socket) for zone in meter.zones] == [("package", 0), ("package", 1)]


def test_it_says_that_it_is_an_estimate(meter: EstimateMeter) -> None:
    """Whoever shows the figures can label them."""
    assert meter.is_estimate


def test_first_reading_is_zero(meter: EstimateMeter) -> None:
    """CPU time from before the start is not counted."""
    assert meter.read().energy_uj.tolist() == [0, 0]


def test_idle_cpus_draw_idle_watts(meter: EstimateMeter, account: Account) -> None:
    """Ten idle seconds of four and of two CPUs."""
    account.at_ns += 10 * SECOND_NS
    assert meter.read().energy_uj == pytest.approx([40e6, 20e6])


def test_busy_time_draws_the_difference_on_its_socket(
    meter: EstimateMeter, account: Account
) -> None:
    """Five busy CPU seconds on socket 1 add 2 W each there."""
    account.at_ns += 10 * SECOND_NS
    account.busy_ns[1] += 5 * SECOND_NS
    assert meter.read().energy_uj == pytest.approx([40e6, 30e6])


def test_reading_has_the_accounts_time(meter: EstimateMeter, account: Account) -> None:
    """Energy and instant come from one account."""
    account.at_ns = 123 * SECOND_NS
    assert meter.read().at_ns == 123 * SECOND_NS


def test_account_that_restarts_takes_nothing_back(meter: EstimateMeter, account: Account) -> None:
    """CPU time that falls is worth nothing, and counting goes on."""
    account.busy_ns[:] = 0
    assert meter.read().energy_uj.tolist() == [0, 0]
    account.busy_ns += SECOND_NS
    assert meter.read().energy_uj == pytest.approx([2e6, 2e6])


@given(steps=st.lists(st.tuples(st.integers(0, 10**10), st.floats(0, 1)), max_size=20))
def test_readings_sum_to_the_same_energy_however_often_they_are_taken(
    steps: list[tuple[int, float]],
) -> None:
    """Many readings or one: the same joules."""
    account = Account(1)
    often, once = (EstimateMeter(account, (2,), ANY) for _ in range(2))
    last_uj = 0.0
    for passed_ns, share in steps:
        account.at_ns += passed_ns
        account.busy_ns += int(2 * passed_ns * share)
        energy_uj = often.read().energy_uj[0]
        assert energy_uj >= last_uj
        last_uj = energy_uj
    assert last_uj == pytest.approx(once.read().energy_uj[0])


@pytest.mark.parametrize(
    ("architecture", "vendor"),
    [("x86_64", "GenuineIntel"), ("x86_64", "AuthenticAMD"), ("aarch64", "0x41")],
)
def test_known_cpus_have_figures_of_their_own(architecture: str, vendor: str) -> None:
    """The table is found by architecture and vendor, or by architecture alone."""
    assert coefficients_for(architecture, vendor) is not ANY


def test_unknown_cpu_has_a_default() -> None:
    """No host is left without an estimate."""
    assert coefficients_for("riscv64", "") is ANY
    assert coefficients_for("x86_64", "Unheard") is ANY
