"""One hardware counter: unwrapping, baselines, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.meters.energy_counter import EnergyCounter, Fault

RANGE_UJ = 262_143_328_850
BOUND_W = 500.0
SECOND_NS = 1_000_000_000

BASELINE = 1
"""The gap before the first reading."""

IMPOSSIBLE_UJ = 3_000_000_000
"""More than can be drawn while a jump is in doubt, two readings a second apart."""


class Wall:
    """Feeds a counter readings one after another, each taking no time."""

    def __init__(self, counter: EnergyCounter, first_uj: float = 0) -> None:
        self.counter = counter
        self.now_ns = 0
        self.faults: list[Fault] = []
        self.show(first_uj, after_s=0)

    def show(self, raw_uj: float, after_s: float = 1) -> Fault | None:
        """Let time pass and update the counter with one reading."""
        self.now_ns += round(after_s * SECOND_NS)
        fault = self.counter.update(raw_uj, self.now_ns, self.now_ns)
        self.faults += [fault] if fault else []
        return fault


def wall(first_uj: float = 0, wraps_at_uj: float = RANGE_UJ) -> Wall:
    """Start a counter that has shown one value."""
    return Wall(EnergyCounter(wraps_at_uj, bound_w=BOUND_W), first_uj)


def test_first_reading_is_a_baseline() -> None:
    """What the counter held before is not consumption."""
    assert wall(first_uj=123_456_789).counter.total_uj == 0


def test_rise_is_credited() -> None:
    """The difference of two readings is credited."""
    seen = wall(first_uj=1_000)
    seen.show(6_000)
    assert seen.counter.total_uj == 5_000


def test_wrap_is_unwrapped_at_the_counters_own_range() -> None:
    """A counter that restarted goes on from its range."""
    seen = wall(first_uj=999e6, wraps_at_uj=1000e6)
    seen.show(2e6)
    assert seen.counter.total_uj == 3e6


def test_jump_is_counted_and_not_credited() -> None:
    """A rise beyond what the hardware can draw is refused."""
    seen = wall()
    assert seen.show(10 * BOUND_W * 1e6) is Fault.JUMP
    assert seen.counter.total_uj == 0


def test_value_beyond_the_range_is_a_jump() -> None:
    """A counter cannot show more than its range."""
    assert wall().show(RANGE_UJ + 1) is Fault.JUMP


def test_single_wild_reading_costs_no_energy() -> None:
    """The reading after it is measured from the one before it."""
    seen = wall(first_uj=1_000)
    seen.show(200e9)
    seen.show(50e6 + 1_000)
    assert seen.counter.total_uj == 50e6
    assert seen.counter.gaps == BASELINE


def test_counter_that_was_reset_is_followed_from_there() -> None:
    """After a reset the old distance is never credited, and counting goes on."""
    seen = wall(first_uj=200e9)
    assert seen.show(1e6) is Fault.JUMP
    assert seen.show(41e6) is None
    assert seen.show(81e6) is None
    assert seen.counter.total_uj == 80e6
    assert seen.counter.gaps == BASELINE + 1


def test_counter_that_was_reset_twice_has_two_gaps() -> None:
    """Whatever is left out is counted, though no reading in between was good."""
    seen = wall(first_uj=200e9)
    assert seen.show(1e6) is Fault.JUMP
    assert seen.show(100e9) is Fault.JUMP
    seen.show(100e9 + 1e6)
    assert seen.counter.total_uj == 1e6
    assert seen.counter.gaps == BASELINE + 2


def test_counter_that_is_forgotten_has_a_gap() -> None:
    """Its next reading is a baseline, as the first one was."""
    seen = wall(first_uj=5e6)
    seen.counter.forget()
    assert seen.show(1e6) is None
    assert seen.counter.total_uj == 0
    assert seen.counter.gaps == BASELINE + 1


def test_small_step_back_is_not_credited_twice() -> None:
    """Of two explanations for a rise the smaller one counts."""
    seen = wall(first_uj=100e6)
    assert seen.show(99e6) is Fault.JUMP
    seen.show(110e6)
    assert seen.counter.total_uj == 10e6


def test_unknown_range_makes_a_fall_a_jump() -> None:
    """Without a range there is nothing to unwrap at."""
    assert wall(first_uj=100, wraps_at_uj=math.inf).show(50) is Fault.JUMP


def test_gap_too_long_to_unwrap_is_a_new_baseline() -> None:
    """When a second wrap is possible the energy is unknown, and a gap is counted."""
    seen = wall(first_uj=0)
    assert seen.show(5e6, after_s=2 * RANGE_UJ / 1e6 / BOUND_W) is Fault.GAP
    seen.show(8e6)
    assert seen.counter.total_uj == 3e6
    assert seen.counter.gaps == BASELINE + 1


@given(
    wraps_at_uj=st.floats(1e10, 1e13),
    bound_w=st.floats(100, 10_000),
    share=st.floats(0.01, 1),
    first=st.floats(0, 1),
)
def test_within_the_longest_wait_every_wrap_is_seen(
    wraps_at_uj: float, bound_w: float, share: float, first: float
) -> None:
    """At any power up to the bound, from anywhere in the range."""
    counter = EnergyCounter(wraps_at_uj, bound_w=bound_w)
    seen = Wall(counter, first * wraps_at_uj)
    used_uj = share * bound_w * counter.max_wait_s * 1e6
    assert seen.show((first * wraps_at_uj + used_uj) % wraps_at_uj, counter.max_wait_s) is None
    assert counter.total_uj == pytest.approx(used_uj, rel=1e-6, abs=1)


def test_counter_without_a_range_can_wait() -> None:
    """Nothing can be missed of one that never wraps."""
    assert EnergyCounter(bound_w=BOUND_W).max_wait_s == math.inf


def test_slow_reading_is_no_jump() -> None:
    """Energy that came while a reading was delayed lies within the reading's own time."""
    counter = EnergyCounter(RANGE_UJ, bound_w=BOUND_W)
    counter.update(0, 0, 0)
    fault = counter.update(0.9 * BOUND_W * 1e6, SECOND_NS // 100, SECOND_NS)
    assert fault is None


@pytest.mark.parametrize(
    ("first_uj", "then_uj", "at_zero"), [(0, 0, True), (0, 5, False), (5, 5, False)]
)
def test_only_a_counter_that_reads_zero_is_at_zero(
    first_uj: float, then_uj: float, at_zero: bool
) -> None:
    """A counter that moved or holds a value is connected, even while it rests."""
    seen = wall(first_uj=first_uj)
    seen.show(then_uj)
    assert seen.counter.at_zero is at_zero


steps = st.lists(
    st.tuples(st.floats(1e-3, 300), st.floats(0, 1)),  # seconds, share of the bound
    min_size=1,
    max_size=40,
)


@given(first_uj=st.integers(0, RANGE_UJ - 1), steps=steps)
def test_sum_is_the_true_energy(first_uj: int, steps: list[tuple[float, float]]) -> None:
    """Any run of readings with at most one wrap between two sums to the energy that was used."""
    seen, true_uj = wall(first_uj), 0
    for after_s, share in steps:
        true_uj += int(share * after_s * BOUND_W * 1e6)
        seen.show((first_uj + true_uj) % RANGE_UJ, after_s)
        assert seen.counter.total_uj == true_uj


@given(
    raws=st.lists(
        st.tuples(st.floats(1e-3, 1e4), st.integers(-1, RANGE_UJ + 1)), min_size=2, max_size=40
    )
)
def test_total_never_falls_nor_outruns_the_hardware(raws: list[tuple[float, int]]) -> None:
    """Whatever a counter shows, the total rises by what can have been drawn, or not at all."""
    seen, last_uj = wall(raws[0][1]), 0.0
    for after_s, raw_uj in raws[1:]:
        seen.show(raw_uj, after_s)
        assert seen.counter.total_uj >= last_uj
        last_uj = seen.counter.total_uj
    assert last_uj <= BOUND_W * 1e6 * (seen.now_ns / SECOND_NS + 0.01 * len(raws))


@given(
    at_uj=st.integers(0, RANGE_UJ - 1),
    off_uj=st.integers(IMPOSSIBLE_UJ, RANGE_UJ - IMPOSSIBLE_UJ),
    watts=st.floats(0, BOUND_W),
)
def test_lasting_jump_is_never_credited(at_uj: int, off_uj: int, watts: float) -> None:
    """A counter moved by any impossible distance credits only what is drawn after it."""
    seen = wall(at_uj)
    for second in range(1, 6):
        seen.show(int(at_uj + off_uj + second * watts * 1e6) % RANGE_UJ)
    assert seen.counter.total_uj == pytest.approx(4 * watts * 1e6, abs=5)
    assert seen.faults.count(Fault.JUMP) == 1
