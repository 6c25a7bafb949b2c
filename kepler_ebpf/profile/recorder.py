"""Records a profile: joins each interval that ends with the samples taken in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.model.arrays import Bools, Records
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.names import ExecEvent
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.profile.joined import Joined, Part
from kepler_ebpf.profile.sampler import Sampler


class Learning(Protocol):
    """What finds the files of processes while they live."""

    def learn(self, pid: int, start_ns: int) -> None:
        """Note what will name the code of a process; it may be gone by now."""

    def learn_file(self, path: str) -> None:
        """Note an executable, for processes that are gone when they are looked at."""


class Recorder:
    """Takes in intervals. The first is that before what is profiled, and is left out."""

    def __init__(
        self,
        tracker: CpuTimeTracker,
        zones: tuple[Zone, ...],
        select: Callable[[Records], Bools],
        learning: Learning,
        *,
        with_unowned: bool = False,
    ) -> None:
        """*select* chooses records as ``stat.tally.Select`` does.

        *with_unowned* adds the active energy of the machine that no task can be charged for.
        """
        if tracker.samples is None:
            raise RuntimeError("the programs were loaded without samples")
        self._tracker, self._zones, self._select = tracker, zones, select
        self._learning, self._with_unowned = learning, with_unowned
        self.samples = tracker.samples
        self.sampler = Sampler(tracker.samples)
        self.joined = Joined(len(zone_kinds(zones)))
        self._has_begun = False
        self._skipped_ns = 0
        self.untracked_ns = 0
        """CPU time of the machine that is known by cgroup only or not at all."""

    def take(self, measured: Measured, execs: Iterable[ExecEvent]) -> None:
        """Take in what was measured since the last call, as one interval, and what was executed."""
        sampled = self.sampler.take(self._tracker.epoch)
        if not self._has_begun:
            self._has_begun = True
            return
        attribution, records = attribute(measured, self._zones), measured.records
        chosen = self._select(records)
        self.untracked_ns += measured.lost_ns + measured.overflow_ns
        columns = np.array([[z.kind == kind for kind in attribution.kinds] for z in self._zones])
        unowned_uj = attribution.unattributed_uj.sum(axis=0) @ columns
        cpu_ns = records["cpu_ns"][chosen].astype(np.float64)
        kept = 1.0 - self._before_exec(float(cpu_ns.sum()))
        part = Part(
            measured.intervals[0].usage.start_ns,
            measured.intervals[-1].usage.end_ns,
            records[chosen],
            records[~chosen],
            cpu_ns * kept,
            attribution.shares_uj[chosen] * kept,
            measured.lost_ns * float(self._with_unowned),
            unowned_uj * float(self._with_unowned),
        )
        self._learn(part.records, sampled.heads, execs)
        self.joined.add(part, sampled)

    def _before_exec(self, cpu_ns: float) -> float:
        """Return the part of an interval's time that a command had before its exec."""
        jobs = self._tracker.jobs
        due_ns = (jobs.pre_exec_ns if jobs else 0) - self._skipped_ns
        taken_ns = min(float(due_ns), cpu_ns)
        self._skipped_ns += int(taken_ns)
        return taken_ns / cpu_ns if cpu_ns else 0.0

    def _learn(self, records: Records, heads: Records, execs: Iterable[ExecEvent]) -> None:
        """Learn the processes that were sampled and are profiled, and what they have executed."""
        wanted = set(records["tgid"].tolist())
        users = heads[heads["has_user"] > 0]
        # A set: np.unique would import a megabyte of numpy.ma.
        seen = {*zip(users["tgid"].tolist(), users["process_start_ns"].tolist(), strict=True)}
        for pid, start_ns in sorted(seen):
            if pid in wanted:
                self._learning.learn(pid, start_ns)
        for path in {each.exe for each in execs if each.tgid in wanted and each.exe}:
            self._learning.learn_file(path)
