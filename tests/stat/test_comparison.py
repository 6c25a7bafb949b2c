"""The verdict of `compare`: seldom wrong, often enough right, and open where it must be."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.stat.comparison import Ratio, Verdict, order, paired, unpaired

LEAST = 0.01


def session(chance, pairs, more=0.0, noise=0.02, drift=0.0):
    """Simulate interleaved runs: B costs *more*, runs differ by *noise*, the meter drifts."""
    names = order(pairs, chance.getrandbits(32))
    figures: dict[str, list[float]] = {"A": [], "B": []}
    for number, name in enumerate(names):
        true_j = 100.0 * (1 + (more if name == "B" else 0.0))
        drifted = true_j * (1 + drift * number / len(names))
        figures[name].append(drifted * math.exp(chance.gauss(0, noise)))
    return figures["A"], figures["B"]


def count(verdict, times, compare=paired, **options):
    """Count how often simulated sessions have that verdict."""
    chance = random.Random(7)  # noqa: S311 - a simulation
    sessions = (session(chance, **options) for _ in range(times))
    return sum(compare(a, b, LEAST).verdict(LEAST) is verdict for a, b in sessions)


def test_same_command_is_seldom_different():
    """A against itself: at most 2 of 40 are called different."""
    assert count(Verdict.DIFFERENT, 40, pairs=10) <= 2
    assert count(Verdict.DIFFERENT, 40, pairs=10, compare=unpaired) <= 2


def test_five_per_cent_are_found():
    """5 % more is found in at least 18 of 20 sessions of 20 pairs."""
    assert count(Verdict.DIFFERENT, 20, pairs=20, more=0.05) >= 18


def test_drift_is_no_difference():
    """A meter that drifts by 10 % over the session makes at most 2 of 20 different."""
    assert count(Verdict.DIFFERENT, 20, pairs=10, drift=0.1) <= 2


def test_quiet_runs_are_the_same():
    """With little noise two equal commands are called the same."""
    assert count(Verdict.SAME, 20, pairs=10, noise=0.003) >= 18


def test_stated_smallest_difference_is_found_in_four_of_five():
    """A difference as large as the one stated is found about as often as stated."""
    chance = random.Random(3)  # noqa: S311 - a simulation
    sessions = (session(chance, 10) for _ in range(40))
    stated = [paired(one, other, LEAST).smallest for one, other in sessions]
    found = count(Verdict.DIFFERENT, 200, pairs=10, more=statistics.fmean(stated))
    assert 140 <= found <= 180


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.05, Verdict.DIFFERENT),
        (-0.05, -0.02, Verdict.DIFFERENT),
        (-0.009, 0.009, Verdict.SAME),
        (0.002, 0.05, Verdict.OPEN),
        (-0.05, 0.05, Verdict.OPEN),
        (0.002, 0.008, Verdict.SAME),
    ],
)
def test_verdict_follows_the_interval(low, high, verdict):
    """All of the interval beyond the least difference, all within, or neither."""
    assert Ratio((low + high) / 2, low, high, 0.1).verdict(LEAST) is verdict


@given(st.integers(2, 40), st.integers(0, 2**32))
def test_runs_are_balanced(pairs, seed):
    """Each pair has one A and one B, and both come first equally often in each block of two."""
    runs = order(pairs, seed)
    couples = [runs[at : at + 2] for at in range(0, len(runs), 2)]
    assert len(couples) == pairs
    assert all(sorted(couple) == ["A", "B"] for couple in couples)
    assert all(couples[at][0] != couples[at + 1][0] for at in range(0, 2 * (pairs // 2) - 1, 2))


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=20), st.floats(0.5, 2.0))
def test_exact_ratio_is_found(figures, factor):
    """Where B is a fixed multiple of A, the ratio is that and its interval has no width."""
    ratio = paired(figures, [figure * factor for figure in figures], LEAST)
    assert ratio.more == pytest.approx(factor - 1, abs=1e-9)
    assert ratio.low == pytest.approx(ratio.high, abs=1e-6)
