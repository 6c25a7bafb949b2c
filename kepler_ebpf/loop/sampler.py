"""The loop: one interval after the other, from the kernel and the meter to a Snapshot.

An interval is a transaction. What was drained is kept until its energy is known, and energy is
cumulative, so a failed read only makes the next interval longer.

Measuring keeps the grid. Accounting, which shares out each interval by itself, may be left until
some have come together: most of what a short one costs is to wake the code that does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kepler_ebpf.attribution import attribute
from kepler_ebpf.errors import ReadError
from kepler_ebpf.host.garbage import GarbageRounds
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.ledger.ledger import Ledger
from kepler_ebpf.loop.backlog import Backlog, Due
from kepler_ebpf.loop.self_metrics import SelfMetrics, residual_ratio
from kepler_ebpf.loop.ticker import Ticker
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, Meter, MeterReading
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.usage import Usage
from kepler_ebpf.names.budget import NameBudget
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.kubernetes.pod_infos import PodInfos
from kepler_ebpf.names.processes.exits import ExitChecker

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SamplerDeps:
    """What a sampler is made of; ``publish`` takes each finished Snapshot.

    Intervals are accounted for when they come to ``together_s``, with one Snapshot of the last.
    """

    account: CpuTimeTracker
    meter: Meter
    ledger: Ledger
    paths: CgroupPaths
    naming: NameBudget
    sweep: ExitChecker
    pods: PodInfos
    health: SelfMetrics
    publish: Callable[[Snapshot], None]
    together_s: float = 0.0


class Sampler:
    """Turns intervals into snapshots. The one owner of everything in *parts*."""

    def __init__(self, parts: SamplerDeps) -> None:
        """Take the baseline: the kernel's account must have started."""
        self._parts = parts
        self._self = parts.account.self_process
        self._backlog = Backlog(parts.meter.read())
        self._measured: list[tuple[Usage, MeterReading]] = []
        self._began_s = time.perf_counter()
        self._each_s = 0.0

    def run(self, ticker: Ticker, garbage: GarbageRounds | None = None) -> None:
        """Sample at every tick until the ticker stops; between ticks, do what can wait.

        What cannot is a cgroup's name: its container may be gone before the interval ends.
        """
        ticker.listen(self._parts.account.cgroup_notifier)
        ticker.rest_within(self._parts.meter.max_wait_s)
        for tick in ticker:
            if tick.rest:
                # Its readings are cumulative: the next interval's has this one in it.
                self._parts.meter.read()
                continue
            if tick.rung:
                self._meet_cgroups()
                self._parts.naming.work(ticker.remaining_s)
                continue
            self._parts.health.tick(tick)
            try:
                self._measure()
                if tick.extra or self._is_time():
                    self._account()
            except ReadError as error:
                self._parts.health.failed_intervals += 1
                LOG.warning("interval skipped, the next one is longer: %s", error)
            self._parts.naming.work(ticker.remaining_s)
            if not self._measured:
                self._sweep()
            if garbage:
                garbage.work()

    def _measure(self) -> None:
        """Close the running interval, and keep what was used and what the meter says."""
        self._began_s, parts = time.perf_counter(), self._parts
        parts.account.close_interval()
        reading = parts.meter.read()
        self._meet_cgroups()
        usage = parts.account.drain()
        parts.health.interval(usage)
        self._measured.append((usage, reading))

    def _is_time(self) -> bool:
        """Whether with another interval more than may wait would wait, give or take half of one.

        Or the work on those there are takes half an interval, which the next tick must not feel.
        """
        lengths_s = [usage.interval_s for usage, _ in self._measured]
        half_s = lengths_s[-1] / 2
        work_s = self._each_s * len(lengths_s)
        return sum(lengths_s) + half_s >= self._parts.together_s or work_s >= half_s

    def _account(self) -> None:
        """Share the energy of each interval that was measured, and publish the last."""
        began_s, parts = time.perf_counter(), self._parts
        measured, self._measured = self._measured, []
        for number, (usage, reading) in enumerate(measured, 1):
            parts.naming.begin_interval(usage.interval_s)
            task_uj = self._share(list(self._backlog.settle(usage, reading)))
            # Names are given before, and ends noted after, what is still to be credited.
            if number == 1:
                self._learn_names()
            if number == len(measured):
                parts.ledger.ended_cgroups(parts.paths.take_ended())
            parts.ledger.end_interval(usage.end_ns / NS_PER_S, owing=self._backlog.may_pay)
        parts.publish(self._snapshot(usage, task_uj))
        self._each_s = (time.perf_counter() - began_s) / len(measured)

    def _meet_cgroups(self) -> None:
        """Learn of cgroups that were made and removed; a container may be gone soon."""
        events = self._parts.account.cgroup_events()
        self._parts.paths.learn(events)
        self._parts.naming.meet(event.cgroup_id for event in events if not event.removed)

    def _share(self, dues: list[Due]) -> Floats:
        """Attribute and credit every due; return the current tasks' share (tasks, kinds)."""
        zones = self._parts.meter.zones
        shares = [attribute(due.tasks, due.sockets, zones, due.energy_uj) for due in dues]
        for due, shared in zip(dues, shares, strict=True):
            self._parts.ledger.credit(
                due.tasks, shared, count_cpu=not due.late, interval_part=due.interval_part
            )
            self._parts.health.residual(residual_ratio(shared, due.energy_uj, zones))
        return shares[0].shares_uj

    def _sweep(self) -> None:
        ledger = self._parts.ledger
        tgids, starts = self._parts.sweep.gone(ledger.running_processes)
        if len(tgids):
            ledger.ended_processes(tgids, starts)

    def _learn_names(self) -> None:
        ledger, renewed = self._parts.ledger, self._parts.naming.renewed()
        # Pods first: a cgroup's new name may have the new id of its pod.
        for pod_id, pod in renewed.pods.items():
            ledger.relabel_pod(pod_id, pod)
        for cgroup_id, name in renewed.cgroups.items():
            ledger.relabel_cgroup(cgroup_id, name)
        for (tgid, start_ns), process in renewed.processes.items():
            ledger.relabel_process(tgid, start_ns, process)

    def _unread_kinds(self) -> frozenset[str]:
        pairs = zip(self._parts.meter.zones, self._backlog.unknown.tolist(), strict=True)
        return frozenset(zone.kind for zone, unknown in pairs if unknown)

    def _snapshot(self, usage: Usage, task_uj: Floats) -> Snapshot:
        parts, views = self._parts, self._parts.ledger.views()
        own = parts.ledger.totals_of(*self._self)
        busy_ns, window_ns = (
            sum(each.tolist()) for each in (usage.sockets.busy_ns, usage.sockets.window_ns)
        )
        node = parts.ledger.node(busy_ns / window_ns if window_ns else 0.0)
        for array in (usage.tasks, task_uj):
            array.setflags(write=False)
        return Snapshot(
            at_s=time.time(),
            interval_s=usage.interval_s,
            kinds=parts.ledger.kinds,
            unread_kinds=self._unread_kinds(),
            node=node,
            processes=views.processes,
            containers=views.containers,
            vms=views.vms,
            pods=views.pods,
            units=views.units,
            tasks=usage.tasks,
            task_uj=task_uj,
            health=parts.health.snapshot(own, time.perf_counter() - self._began_s),
            pod_infos=parts.pods.infos(views.pods.labels),
            pod_source=parts.pods.health(),
        )
