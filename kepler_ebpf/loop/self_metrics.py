"""The sampler about itself: what it missed, lost, cost and drew."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from kepler_ebpf.exporters.printer import Printer
from kepler_ebpf.kernel.libbpf import ProgramStats
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.ticker import Tick
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import Attribution, Meter, Zone
from kepler_ebpf.model.snapshot import Health
from kepler_ebpf.model.usage import Usage

STATS_PERIOD_S = 1.0


@dataclass(slots=True)
class SelfMetrics:
    """Counts over the life of a run, and the figures of the intervals since the last snapshot."""

    account: CpuTimeTracker
    meter: Meter
    loader: str
    printer: Printer | None = None
    intervals: int = 0
    failed_intervals: int = 0
    missed_ticks: int = 0
    _lateness_s: float = 0.0
    _residual_ratio: float = 0.0
    _accounting_ratio: float = 0.0
    _fill_ratio: float = 0.0
    _stats: ProgramStats = field(default_factory=lambda: ProgramStats(0, 0, 0))
    _stats_at_s: float = 0.0

    def tick(self, tick: Tick) -> None:
        """Note how punctual an interval is."""
        self.missed_ticks += tick.missed
        if not tick.extra:
            self._lateness_s = tick.lateness_s

    def interval(self, usage: Usage) -> None:
        """Note a closed interval, and how well its CPU time adds up to the time that passed."""
        self.intervals += 1
        of_nobody_ns = (*usage.sockets.idle_ns.tolist(), *usage.sockets.lost_ns.tolist())
        counted_ns = int(usage.tasks["cpu_ns"].sum()) + sum(of_nobody_ns)
        ratio = abs(counted_ns - usage.wall_ns) / max(usage.wall_ns, 1)
        self._accounting_ratio = max(self._accounting_ratio, ratio)
        self._fill_ratio = max(self._fill_ratio, self.account.fill_ratio)

    def residual(self, ratio: float) -> None:
        """Note what of an attribution did not add up."""
        self._residual_ratio = max(self._residual_ratio, ratio)

    def snapshot(self, own: tuple[Floats, int], work_s: float) -> Health:
        """Everything at this moment; *own* are our energy by kind in µJ and our CPU ns.

        What may go wrong in an interval is the worst of those since the last snapshot.
        """
        own_uj, own_cpu_ns = own
        health = Health(
            intervals=self.intervals,
            failed_intervals=self.failed_intervals,
            missed_ticks=self.missed_ticks,
            stdout_dropped=self.printer.dropped if self.printer else 0,
            lateness_s=self._lateness_s,
            close_s=self.account.close_s,
            work_s=work_s,
            lost_ns=self.account.lost_ns,
            hidden_ns=self.account.hidden_ns,
            overflow_ns=self.account.overflow_ns,
            cgroup_events_lost=self.account.cgroup_events_lost,
            map_fill_ratio=max(self._fill_ratio, self.account.fill_ratio),
            residual_ratio=self._residual_ratio,
            accounting_ratio=self._accounting_ratio,
            meter_name=self.meter.name,
            meter_is_estimate=self.meter.is_estimate,
            meter_errors=dict(self.meter.errors),
            loader=self.loader,
            bpf_run_ns=self._program_stats().run_ns,
            bpf_run_count=self._stats.run_count,
            bpf_missed=self._stats.missed_count,
            own_cpu_ns=own_cpu_ns,
            own_uj=own_uj,
        )
        self._residual_ratio = self._accounting_ratio = self._fill_ratio = 0.0
        return health

    def _program_stats(self) -> ProgramStats:
        now_s = time.monotonic()
        if now_s - self._stats_at_s >= STATS_PERIOD_S:
            self._stats, self._stats_at_s = self.account.stats(), now_s
        return self._stats


def residual_ratio(shared: Attribution, energy_uj: Floats, zones: tuple[Zone, ...]) -> float:
    """The largest part of any kind's energy that attribution did not put somewhere, 0 if none."""
    given_uj: list[float] = shared.shares_uj.sum(axis=0).tolist()
    placed_uj = dict(zip(shared.kinds, given_uj, strict=True))
    read_uj = dict.fromkeys(shared.kinds, 0.0)
    of_nobody = zip(shared.idle_uj.tolist(), shared.unattributed_uj.tolist(), strict=True)
    for zone, zone_uj, (idle_uj, unattributed_uj) in zip(
        zones, energy_uj.tolist(), of_nobody, strict=True
    ):
        read_uj[zone.kind] += zone_uj
        placed_uj[zone.kind] += idle_uj + unattributed_uj
    return max(abs(placed_uj[kind] - read_uj[kind]) / max(read_uj[kind], 1.0) for kind in read_uj)
