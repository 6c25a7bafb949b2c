"""Mean, spread and confidence of repeated runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Of some figures the mean, the standard deviation, and half the width of the mean's interval.

    With one figure alone there is no deviation: both are NaN.
    """

    mean: float
    deviation: float
    half_width: float


def spread(figures: Sequence[float]) -> Spread:
    """Describe *figures*, at least one."""
    mean, count = statistics.fmean(figures), len(figures)
    if count == 1:
        return Spread(mean, math.nan, math.nan)
    deviation = statistics.stdev(figures)
    return Spread(mean, deviation, quantile(count - 1) * deviation / math.sqrt(count))


def quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return Student's t that *confidence* of all lie within on both sides, for *freedom* degrees.

    Exact for 1 and 2, else the expansion of Cornish and Fisher, right to 0.2 % from 3 on.
    """
    upper = (1 + confidence) / 2
    if freedom == 1:
        return math.tan(math.pi * (upper - 0.5))
    if freedom == 2:  # noqa: PLR2004
        tail: float = 2 * upper * (1 - upper)
        return (2 * upper - 1) / math.sqrt(tail)
    z: float = statistics.NormalDist().inv_cdf(upper)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
