"""Figures of the loop about itself: what it measured and missed, and how well that adds up."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.attribution import residual_ratio
from kepler_ebpf.loop.ticker import Tick
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.stats import LoopStats
from kepler_ebpf.model.usage import Measured


class SelfMetrics:
    """Counts over the life of a run; ratios are the worst of the last batch of intervals."""

    def __init__(self) -> None:
        self.intervals = 0
        self.failed_intervals = 0
        self.work_s = 0.0
        self._missed_ticks = 0
        self._lateness_s = 0.0
        self._residual_ratio = self._accounting_ratio = 0.0

    def tick(self, tick: Tick) -> None:
        """Note how punctual the end of an interval is."""
        self._missed_ticks += tick.missed
        self._lateness_s = tick.lateness_s

    def accounted(
        self, measured: Measured, attribution: Attribution, zones: tuple[Zone, ...]
    ) -> None:
        """Note how well a batch adds up: its energy, and its CPU time by the clock."""
        self._residual_ratio = residual_ratio(measured, attribution, zones)
        usages = [interval.usage for interval in measured.intervals]
        others_ns = [sum(u.sockets.idle_ns) + sum(u.sockets.lost_ns) for u in usages]
        wall_ns = np.array([usage.wall_ns for usage in usages], np.float64)
        task_ns = np.bincount(measured.interval_of, measured.records["cpu_ns"], len(usages))
        gap = np.abs(task_ns + others_ns - wall_ns) / np.maximum(wall_ns, 1.0)
        self._accounting_ratio = float(gap.max(initial=0.0))

    @property
    def stats(self) -> LoopStats:
        """Return everything at this moment."""
        return LoopStats(
            intervals=self.intervals,
            failed_intervals=self.failed_intervals,
            missed_ticks=self._missed_ticks,
            lateness_s=self._lateness_s,
            work_s=self.work_s,
            residual_ratio=self._residual_ratio,
            accounting_ratio=self._accounting_ratio,
        )
