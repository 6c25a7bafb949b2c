"""Figures of the parts about themselves: small frozen values, all counters since start.

Reading a part's stats changes nothing. The metrics that show them are in ``exporters.catalog``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import MeterStats


@dataclass(frozen=True, slots=True)
class TrackerStats:
    """The CPU time tracker: time without a full owner, lost events, and cost.

    ``lost_ns`` has no owner at all; ``hidden_ns`` is the part of it that tasks hidden from tracing
    ran. ``overflow_ns`` is known by cgroup only. ``close_s`` is the time that closing and draining
    the last interval took.
    """

    lost_ns: int = 0
    hidden_ns: int = 0
    overflow_ns: int = 0
    cgroup_events_lost: int = 0
    exec_events_lost: int = 0
    process_ends_lost: int = 0
    map_fill_ratio: float = 0.0
    close_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """The kernel's figures of our BPF programs, summed; run figures stand while they are off."""

    run_ns: int = 0
    run_count: int = 0
    missed_count: int = 0


@dataclass(frozen=True, slots=True)
class LoopStats:
    """The loop: intervals, ticks, and how well the last batch of intervals added up."""

    intervals: int = 0
    failed_intervals: int = 0
    missed_ticks: int = 0
    lateness_s: float = 0.0
    work_s: float = 0.0
    residual_ratio: float = 0.0
    accounting_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class NamingStats:
    """Naming: faults, each of which cost names, and reads that did not return and were given up.

    ``forgotten_paths`` are those of cgroups for which there was no room.
    """

    faults: int = 0
    given_up_reads: int = 0
    forgotten_paths: int = 0


NO_PUSHES: Mapping[str, int] = {"sent": 0, "rejected": 0, "failed": 0}
"""Pushes to a collector by result, before the first."""


@dataclass(frozen=True, slots=True)
class ExportStats:
    """The exporters that take every interval: what stdout skipped, and pushes by result."""

    stdout_dropped: int = 0
    pushes: Mapping[str, int] = field(default_factory=lambda: NO_PUSHES)


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """This process as a consumer: CPU time, and energy (kinds,) by zone kind."""

    cpu_ns: float
    energy_uj: Floats


@dataclass(frozen=True, slots=True)
class Stats:
    """All figures of a run about itself in a snapshot.

    ``limits`` is how often each was reached.
    """

    loader: str
    tracker: TrackerStats
    programs: ProgramStats
    meter: MeterStats
    loop: LoopStats
    own: OwnUsage
    exports: ExportStats = field(default_factory=ExportStats)
    naming: NamingStats = NamingStats()
    limits: Mapping[str, int] = field(default_factory=dict)
