"""Whether B costs more than A: pairs of runs, their ratios, and a verdict that may be open.

All is done on logarithms, so that "5 % more" and "5 % less" weigh alike, and so that work (CPU
seconds) and efficiency (joules for each of them) add up to the whole.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from kepler_ebpf.stat.statistics import quantile, spread

POWER_Z = statistics.NormalDist().inv_cdf(0.8)
"""The smallest difference that is stated would be found in four of five comparisons."""


class Verdict(Enum):
    """What can be said of a ratio."""

    DIFFERENT = "different"
    SAME = "same"
    OPEN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Ratio:
    """B to A, as a part more (0.05: 5 % more): the estimate and its 95 % interval.

    ``smallest`` is the difference that four of five such comparisons would find.
    """

    more: float
    low: float
    high: float
    smallest: float

    def verdict(self, least: float) -> Verdict:
        """Judge with the *least* difference that matters.

        Different: all of the interval is beyond it. Same: all of the interval is within.
        """
        if self.low > least or self.high < -least:
            return Verdict.DIFFERENT
        return Verdict.SAME if -least <= self.low and self.high <= least else Verdict.OPEN


def order(pairs: int, seed: int) -> list[str]:
    """Return the order of the runs, "A" and "B": blocks of ABBA or BAAB, drawn by *seed*.

    A drift that is linear over a block falls out of the mean of its two pairs.
    """
    chance = random.Random(seed)  # noqa: S311 - not a secret
    runs: list[str] = []
    for _ in range((pairs + 1) // 2):
        first, second = chance.sample(("A", "B"), 2)
        runs += [first, second, second, first]
    return runs[: 2 * pairs]


def paired(one: Sequence[float], other: Sequence[float], least: float) -> Ratio:
    """Compare figures that were measured in pairs, at least two."""
    logs = [math.log(b / a) for a, b in zip(one, other, strict=True)]
    mean, deviation, half = spread(logs)
    return _ratio(mean, half, deviation / math.sqrt(len(logs)), least)


def unpaired(one: Sequence[float], other: Sequence[float], least: float) -> Ratio:
    """Compare figures of two times, at least two of each (Welch's interval)."""
    logs = [[math.log(figure) for figure in figures] for figures in (one, other)]
    parts = [statistics.variance(each) / len(each) for each in logs]
    error, mean = math.sqrt(sum(parts)), statistics.fmean(logs[1]) - statistics.fmean(logs[0])
    freedom = min(len(each) - 1 for each in logs)
    if error:
        below = sum(part**2 / (len(each) - 1) for part, each in zip(parts, logs, strict=True))
        freedom = max(int(error**4 / below), 1)
    return _ratio(mean, quantile(freedom) * error, error, least)


def _ratio(mean: float, half: float, error: float, least: float) -> Ratio:
    smallest = math.log1p(least) + half + POWER_Z * error
    return Ratio(*(math.expm1(log) for log in (mean, mean - half, mean + half, smallest)))
