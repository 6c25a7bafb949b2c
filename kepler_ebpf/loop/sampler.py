"""The loop: measure each interval on the grid; attribute, credit and publish several in one pass.

An interval is a transaction. What was drained is kept until its energy is known, and energy is
cumulative, so a failed read only makes the next interval longer.

Most of what an interval costs is to touch the code and data that account for it. So intervals are
accounted for in batches: when a reader comes, when their work would fill most of an interval, or
after a few seconds. Every interval is still attributed by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kepler_ebpf.attribution import attribute
from kepler_ebpf.errors import ReadError
from kepler_ebpf.kernel.tracker import MAX_PENDING_RECORDS, CpuTimeTracker
from kepler_ebpf.ledger.ledger import Batch, Ledger
from kepler_ebpf.loop.job_accounts import JobAccounts
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.loop.self_metrics import SelfMetrics
from kepler_ebpf.loop.ticker import Tick, Ticker, Wake
from kepler_ebpf.model.bounds import COMMON_LIMITS
from kepler_ebpf.model.energy import NS_PER_S, Meter
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.stats import ExportStats, OwnUsage, Stats
from kepler_ebpf.model.usage import Interval
from kepler_ebpf.names.kubernetes.pod_infos import PodInfos
from kepler_ebpf.names.naming import HostNaming
from kepler_ebpf.names.processes.exits import ExitChecker

LOG = logging.getLogger(__name__)

MAX_BATCH_S = 5.0
"""Intervals wait no longer than this to be accounted for."""

WORK_SHARE = 0.5
"""Part of an interval that the accounting of a batch may take, so that the next tick is in time."""

FIXED_WORK, WORK_OF_EXEC_BYTE = 500, 1 / 64
"""The work of a batch whatever is in it, and of what execs it has, in that of one record."""

RECHECK_S = 5.0
"""Processes are checked for ends that may have gone unseen no more often than this."""

CHECK_SHARE = 0.1
"""Part of an interval that checking for ends may take that are known to be lost."""

NAMING_SHARE = 0.1
"""Part of an interval that naming may take inside the accounting of a batch."""


@dataclass(slots=True, kw_only=True)
class Sampler:
    """Turns intervals into snapshots. The one owner of all its parts.

    ``measurer`` has started, with ``tracker`` and ``meter``. ``exports`` is shown in every
    snapshot; ``housekeeping`` is called when there is time, ``works`` after every tick.
    Snapshots have the cgroups *with_cgroups*, and watts of *parts* intervals together.
    """

    tracker: CpuTimeTracker
    meter: Meter
    measurer: Measurer
    ledger: Ledger
    names: HostNaming
    exits: ExitChecker
    pods: PodInfos
    publisher: Publisher
    exports: Callable[[], ExportStats]
    housekeeping: Callable[[], None]
    works: Callable[[], None]
    with_cgroups: bool = False
    parts: int = 1
    jobs: JobAccounts | None = None

    _self_metrics: SelfMetrics = field(init=False, default_factory=SelfMetrics)
    _number: int = field(init=False, default=0)
    _part: int = field(init=False, default=0)
    _shown: list[Interval] = field(init=False, default_factory=list)
    _pending_s: float = field(init=False, default=0.0)
    _last_s: float = field(init=False, default=0.0)
    _s_per_record: float = field(init=False, default=0.0)
    _recheck_at_s: float = field(init=False, default=0.0)
    _at_s: float = field(init=False, default=0.0)
    _end_s: float = field(init=False, default=0.0)
    _missed: tuple[int, int, int] = field(init=False, default=(0, 0, 0))

    def run(self, ticker: Ticker) -> None:
        """Work at every tick until the ticker stops; between ticks, do what can wait."""
        ticker.watch_cgroups(self.tracker.cgroup_notifier)
        ticker.read_counters_within(self.meter.max_wait_s)
        work: dict[Wake, Callable[[Tick], None]] = {
            Wake.INTERVAL: self._end_interval,
            Wake.REFRESH: self._refresh,
            Wake.END_NOW: self._end_now,
            Wake.READ_COUNTERS: self._read_counters,
            Wake.NEW_CGROUPS: self._learn_cgroups,
        }
        for tick in ticker:
            try:
                work[tick.wake](tick)
            except ReadError as error:
                self._self_metrics.failed_intervals += 1
                LOG.warning("An interval could not be read; the next one is longer: %s", error)
            if self.names.has_work:
                self.names.work(ticker.remaining_s)
            self.works()

    # --- ticks

    def _end_interval(self, tick: Tick) -> None:
        """Measure the configured interval, or its last part; account for the batch if it is due."""
        self._self_metrics.tick(tick)
        if not self._measure():
            return
        self._part += 1 + tick.missed
        if is_closed := self._part >= self.parts:
            self._number, self._part = self._number + 1, 0
        if is_batch := self._is_due():
            self._account()
        if is_closed and self.publisher.wants(is_batch=is_batch):
            self._publish(closed=True)

    def _refresh(self, _: Tick) -> None:
        """Publish what was measured, up to now where a reader would find that too old."""
        if self.publisher.is_stale:
            self._measure()
        self._account()
        if self._shown:
            self._publish(closed=False)

    def _end_now(self, _: Tick) -> None:
        """End the running interval, as a part of the configured one, for jobs that wait for it."""
        if self.jobs and self._measure():
            self._account()
            self.jobs.turn(self._self_metrics.work_s)

    def _read_counters(self, _: Tick) -> None:
        """Read the meter before it wraps: the next interval includes this reading."""
        self.meter.read()

    def _learn_cgroups(self, _: Tick | None = None) -> None:
        """Take the names of cgroups that were made and removed; they may be gone soon.

        Where they cannot be read no interval fails: it costs names.
        """
        try:
            events = self.tracker.cgroup_events()
        except ReadError as error:
            self.names.faults.note("cgroup events", error)
            return
        if events:
            self.names.learn_cgroups(events)

    # --- measuring

    def _measure(self) -> bool:
        """End the running interval; False where it goes on, as a zone cannot be read now."""
        interval = self.measurer.measure(self._number)
        self._learn_cgroups()
        if interval is None:
            self._self_metrics.failed_intervals += 1
            return False
        self._at_s, self._end_s = time.time(), time.monotonic()
        self._self_metrics.intervals += 1
        self.publisher.measured()
        self._pending_s += interval.length_s
        self._last_s = interval.length_s
        return True

    def _is_due(self) -> bool:
        """True if the batch must not grow by another interval."""
        execs = self.tracker.exec_events
        return (
            (self.publisher.has_subscribers and not self._part)
            or self._pending_s + self._last_s / 2 >= MAX_BATCH_S
            or self._work() * self._s_per_record >= self._last_s * WORK_SHARE
            or self.tracker.pending_records >= MAX_PENDING_RECORDS
            or execs.pending_bytes >= execs.size_bytes // 2
        )

    def _work(self) -> float:
        """Return the work of accounting for what is pending, in that of one record."""
        tracker = self.tracker
        of_execs = tracker.exec_events.pending_bytes * WORK_OF_EXEC_BYTE
        return FIXED_WORK + tracker.pending_records + of_execs

    # --- accounting

    def _account(self) -> None:
        """Attribute and credit the intervals that were measured, each by itself, in one pass."""
        if not self.measurer.pending:
            return
        began_s, zones = time.perf_counter(), self.meter.zones
        work, measured, self._pending_s = self._work(), self.measurer.take(), 0.0
        self.names.begin_batch(self._last_s * NAMING_SHARE)
        self.names.learn_execs(self.tracker.exec_events.take())
        attribution = attribute(measured, zones)
        numbers = np.array([interval.number for interval in measured.intervals])
        self.ledger.ended_cgroups(self.names.take_ended_cgroups())
        self._resync()
        self.ledger.credit(
            Batch(
                records=measured.records,
                grid=numbers[measured.interval_of],
                attribution=attribution,
                interval_grid=numbers,
                shown=self._shown_number,
                end_s=measured.intervals[-1].usage.end_ns / NS_PER_S,
            )
        )
        if self.jobs:
            self.jobs.credit(measured, attribution)
        self._apply_names()
        self._self_metrics.accounted(measured, attribution, zones)
        parts = (*self._shown, *measured.intervals)
        self._shown = [part for part in parts if part.number >= self._shown_number]
        self.housekeeping()
        self._self_metrics.work_s = time.perf_counter() - began_s
        # A batch that took longer than expected makes the next ones shorter for a while.
        self._s_per_record = max(self._self_metrics.work_s / work, 0.9 * self._s_per_record)

    def _resync(self) -> None:
        """End what ended without a record; check for ends that the kernel side has missed."""
        tracker, missed, stats = self.tracker, self._missed, self.tracker.stats
        self.ledger.ended_processes(*tracker.take_ends())
        self._missed = tracker.missed_switches, stats.process_ends_lost, stats.cgroup_events_lost
        if self._missed[:2] != missed[:2]:
            self.exits.resync(hurry=self._missed[1] != missed[1])
        if self._missed[2] != missed[2]:
            self.names.resync()
        now_s = time.monotonic()
        if self.exits.hurries or (self.exits.has_checks and now_s >= self._recheck_at_s):
            self._recheck_at_s = now_s + RECHECK_S
            budget_s = self._last_s * CHECK_SHARE
            gone = self.exits.gone(self.ledger.running_processes, budget_s)
            self.ledger.ended_processes(*gone)

    @property
    def _shown_number(self) -> int:
        """The last configured interval that has ended; before one has, the first."""
        return max(self._number - 1, 0)

    def _apply_names(self) -> None:
        ledger, updates = self.ledger, self.names.updates()
        # Pods first: a cgroup's new name may have the new id of its pod.
        for pod_id, pod in updates.pods.items():
            ledger.relabel_pod(pod_id, pod)
        for cgroup_id, name in updates.cgroups.items():
            ledger.relabel_cgroup(cgroup_id, name)
        for (tgid, start_ns), process in updates.processes.items():
            ledger.relabel_process(tgid, start_ns, process)

    # --- publishing

    def _publish(self, *, closed: bool) -> None:
        parts = [part for part in self._shown if part.number == self._shown_number]
        views, sockets = self.ledger.views(), [part.usage.sockets for part in parts]
        busy_ns = sum(sum(each.busy_ns) for each in sockets)
        window_ns = busy_ns + sum(sum(each.idle_ns) for each in sockets)
        unread = [any(flags) for flags in zip(*(part.unread for part in parts), strict=True)]
        zones = zip(self.meter.zones, unread, strict=True)
        snapshot = Snapshot(
            at_s=self._at_s,
            end_s=self._end_s,
            interval_s=sum(part.length_s for part in parts),
            kinds=self.ledger.kinds,
            unread_kinds=frozenset(zone.kind for zone, is_unread in zones if is_unread),
            node=self.ledger.node(busy_ns / window_ns if window_ns else 0.0),
            workloads=views,
            stats=self._stats(),
            pod_infos=self.pods.infos(views["pod"].labels),
            pod_source=self.pods.health(),
            cgroups=self.ledger.cgroups() if self.with_cgroups else None,
            tasks=self.ledger.tasks(),
        )
        self.publisher.publish(snapshot, closed=closed)

    def _stats(self) -> Stats:
        own_uj, own_cpu_ns = self.ledger.totals_of(*self.tracker.self_process)
        naming = self.names.stats
        limits = {limit.name: limit.count for limit in (*COMMON_LIMITS, *self.ledger.limits)}
        return Stats(
            loader=self.tracker.loader,
            tracker=self.tracker.stats,
            programs=self.tracker.program_stats,
            meter=self.meter.stats,
            loop=self._self_metrics.stats,
            own=OwnUsage(own_cpu_ns, own_uj),
            exports=self.exports(),
            naming=naming,
            limits=limits | {"cgroup_paths": naming.forgotten_paths},
        )
