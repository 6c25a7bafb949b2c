"""What chosen tasks used over some intervals, beside the rest of the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.model.arrays import Bools, Floats, Records
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, MeterStats, Zone
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.stat.result import Interval, Run, ZoneEnergy

Select = Callable[[Records], Bools]
"""Returns which records (N,), of dtype ``kernel.layout.TASK``, are measured."""

MIN_PEAK_S = 0.04
"""A shorter interval has no say in the peak: one update of a counter more or less is too much."""

JOB, ACTIVE, IDLE, UNOWNED = range(4)
"""Rows of ``Span.energy_uj``."""


@dataclass(slots=True)
class Span:
    """One interval or several: what the chosen ``tasks`` used, and the node.

    ``energy_uj`` (4, kinds) is that of the chosen tasks, and of the node all that is active, that
    is idle, and that is active without an owner. ``power_w`` (zones,) is the highest power of an
    interval, ``peak_w`` (kinds,) that of the chosen tasks. ``unread`` (kinds,) could not be read at
    one end at least. ``untracked_ns`` is CPU time of tasks that are not known.
    """

    length_s: float
    cpu_ns: int
    switches: int
    untracked_ns: int
    energy_uj: Floats
    power_w: Floats
    peak_w: Floats
    unread: Bools
    tasks: set[tuple[int, int]]

    def add(self, other: Span) -> None:
        """Make this one longer by the *other*."""
        self.length_s += other.length_s
        self.cpu_ns += other.cpu_ns
        self.switches += other.switches
        self.untracked_ns += other.untracked_ns
        self.energy_uj = self.energy_uj + other.energy_uj
        self.power_w = np.maximum(self.power_w, other.power_w)
        self.peak_w = np.maximum(self.peak_w, other.peak_w)
        self.unread = self.unread | other.unread
        self.tasks |= other.tasks

    def shorten(self, cpu_ns: int) -> None:
        """Take away *cpu_ns* of what the tasks used, with its part of their energy."""
        if self.cpu_ns:
            part = min(cpu_ns / self.cpu_ns, 1.0)
            self.energy_uj[JOB] *= 1.0 - part
            self.cpu_ns = max(self.cpu_ns - cpu_ns, 0)


def span_of(measured: Measured, zones: tuple[Zone, ...], select: Select) -> Span:
    """Sum one measured interval over the tasks that *select* chooses. Raises as ``attribute``."""
    chosen = select(measured.records)
    span = attributed_span(measured, attribute(measured, zones), zones, chosen)
    mine = measured.records[chosen]
    span.tasks.update(zip(mine["pid"].tolist(), mine["start_ns"].tolist(), strict=True))
    return span


def attributed_span(
    measured: Measured, attribution: Attribution, zones: tuple[Zone, ...], chosen: Bools
) -> Span:
    """Sum one interval over the records (N,) that are *chosen*; its tasks are left out."""
    records, kinds = measured.records, attribution.kinds
    columns = np.array([[zone.kind == kind for kind in kinds] for zone in zones], float)
    job_uj = attribution.shares_uj[chosen].sum(axis=0)
    by_zone = (attribution.active_uj, attribution.idle_uj, attribution.unattributed_uj)
    node_uj = [figures.sum(axis=0) @ columns for figures in by_zone]
    length_s = sum(interval.length_s for interval in measured.intervals)
    drawn_uj = np.array([each.energy_uj for each in measured.intervals]).sum(axis=0)
    unread = np.array([each.unread for each in measured.intervals]).any(axis=0)
    return Span(
        length_s=length_s,
        cpu_ns=int(records["cpu_ns"][chosen].sum()),
        switches=int(records["switches"][chosen].sum()),
        untracked_ns=measured.lost_ns + measured.overflow_ns,
        energy_uj=np.array([job_uj, *node_uj]),
        power_w=drawn_uj / (UJ_PER_J * length_s),
        peak_w=job_uj / (UJ_PER_J * length_s) * (length_s >= MIN_PEAK_S),
        unread=unread @ columns > 0,
        tasks=set(),
    )


def error_of(span: Span, zones: tuple[Zone, ...], meter: MeterStats) -> Floats:
    """Bound the error of metering the tasks' energy: (kinds,) in joules, NaN where not known.

    A counter that moves every ``update_s`` has at either end up to one update too much or too
    little, at the highest power within and just before; both ends together hold no more than one.
    The tasks' share of the zone's energy is their share of its error.
    """
    kinds = zone_kinds(zones)
    columns = np.array([[zone.kind == kind for kind in kinds] for zone in zones], float)
    zone_j = meter.update_s * span.power_w + meter.unit_uj / UJ_PER_J
    drawn_uj = span.energy_uj[ACTIVE] + span.energy_uj[IDLE]
    share = np.divide(span.energy_uj[JOB], drawn_uj, out=np.ones_like(drawn_uj), where=drawn_uj > 0)
    error_j: Floats = (zone_j @ columns) * share
    return np.where(span.unread | meter.is_estimate, np.nan, error_j)


def run_of(span: Span, zones: tuple[Zone, ...], meter: MeterStats, wall_s: float) -> Run:
    """Return the result of a run of *wall_s* seconds, in which the tasks of *span* ran."""
    error_j, joules = error_of(span, zones, meter), span.energy_uj / UJ_PER_J
    energy = {}
    for column, kind in enumerate(zone_kinds(zones)):
        job_j, active_j, idle_j, unowned_j = joules[:, column].tolist()
        error, mean_w = float(error_j[column]), job_j / wall_s
        energy[kind] = ZoneEnergy(
            joules=job_j,
            error_joules=None if np.isnan(error) else error,
            rest_joules=active_j - job_j + idle_j,
            rest_active_joules=max(active_j - job_j - unowned_j, 0.0),
            idle_joules=idle_j,
            unowned_joules=unowned_j,
            mean_watts=mean_w,
            peak_watts=max(float(span.peak_w[column]), mean_w),
        )
    return Run(
        wall_s=wall_s,
        cpu_s=span.cpu_ns / NS_PER_S,
        tasks=len(span.tasks),
        switches=span.switches,
        untracked_s=span.untracked_ns / NS_PER_S,
        zones=energy,
    )


def interval_of(span: Span, zones: tuple[Zone, ...], meter: MeterStats, at_s: float) -> Interval:
    """Return the part *span* of a run, which ended *at_s* seconds after the run's start."""
    run = run_of(span, zones, meter, span.length_s)
    return Interval(
        at_s=at_s,
        wall_s=run.wall_s,
        cpu_s=run.cpu_s,
        switches=run.switches,
        untracked_s=run.untracked_s,
        zones=run.zones,
    )
