"""Mean, spread and confidence of repeated runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from kepler_ebpf.stat.result import Run, ZoneEnergy

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


def mean_run(runs: Sequence[Run]) -> Run:
    """Return a run that has the means of *runs*, at least one.

    Errors, peaks, and the numbers of tasks that still run and of untracked seconds are the largest.
    """
    zones = {kind: _mean_zone([run.zones[kind] for run in runs]) for kind in runs[0].zones}
    return Run(
        wall_s=statistics.fmean(run.wall_s for run in runs),
        cpu_s=statistics.fmean(run.cpu_s for run in runs),
        tasks=round(statistics.fmean(run.tasks for run in runs)),
        switches=round(statistics.fmean(run.switches for run in runs)),
        untracked_s=max(run.untracked_s for run in runs),
        zones=zones,
        running=max(run.running for run in runs),
    )


def _mean_zone(zones: Sequence[ZoneEnergy]) -> ZoneEnergy:
    means: dict[str, Any] = {}
    for name in (field.name for field in fields(ZoneEnergy)):
        figures = [getattr(zone, name) for zone in zones]
        means[name] = None if None in figures else statistics.fmean(figures)
    errors = [zone.error_joules for zone in zones if zone.error_joules is not None]
    means["error_joules"] = max(errors, default=None)
    means["peak_watts"] = max(zone.peak_watts for zone in zones)
    return ZoneEnergy(**means)


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
