"""Measures runs: of a command with all that it starts, or of tasks that run anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kepler_ebpf.kernel.jobs import Jobs
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.model.energy import Meter
from kepler_ebpf.model.names import ExecEvent
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks
from kepler_ebpf.stat.command import Command
from kepler_ebpf.stat.result import NOT_COUNTED, Run
from kepler_ebpf.stat.tally import Select, Span, run_of, span_of

MAX_STEP_S = 0.25
"""Intervals end at least so often: the map of tasks must not fill unseen, and a peak be found."""


class Shown(Protocol):
    """Shows what an interval has used."""

    def __call__(self, at_s: float, step: Span, *, is_last: bool) -> None:
        """Take in the interval that ended *at_s* seconds after the start."""


Taken = Callable[[Measured, list[ExecEvent]], None]
"""Takes in each interval that has ended, with the programs that were executed in it; the first is
that before what is measured."""


@dataclass(slots=True)
class Session:
    """Ends intervals and sums them; for one thread. The measurer has started."""

    tracker: CpuTimeTracker
    measurer: Measurer
    meter: Meter
    procfs: str
    step_s: float = MAX_STEP_S
    shown: Shown | None = None
    taken: Taken | None = None

    def close(self, select: Select) -> Span:
        """End the running interval, and return what it holds. Raises ReadError."""
        self.measurer.measure_now()
        # Where no reader wants them, they are only kept from filling memory.
        execs = self.tracker.exec_events.take()
        self.tracker.take_ends()
        measured = self.measurer.take()
        if self.taken:
            self.taken(measured, execs)
        return span_of(measured, self.meter.zones, select)

    def run(
        self, arguments: Sequence[str], user: str | None, jobs: Jobs, delay_s: float = 0.0
    ) -> Run:
        """Start a command and measure it until it ends, from *delay_s* after its start on.

        Raises as ``Command`` does.
        """
        before, tasks, alive = self.close(jobs.select), 0, set[tuple[int, int]]()

        def begin() -> None:
            nonlocal tasks
            tasks = jobs.tasks
            jobs.arm()

        command = Command(arguments, user, before=begin)
        began_s = time.monotonic()
        with command:
            if delay_s:
                if command.ends_within(delay_s):
                    return replace(NOT_COUNTED, exit_status=command.reap())
                before, began_s = self.close(jobs.select), time.monotonic()
                alive = self._alive(jobs)
            span = self._follow(jobs.select, before, command.ends_within, began_s)
            wall_s = time.monotonic() - began_s
            if not delay_s:
                span.shorten(jobs.pre_exec_ns)
            running = len(self._alive(jobs))
            status = command.reap()
        run = run_of(span, self.meter.zones, self.meter.stats, wall_s)
        tasks = len(alive | span.tasks) if delay_s else jobs.tasks - tasks
        return replace(run, tasks=tasks, running=running, exit_status=status)

    def attach(
        self, select: Select, ends_within: Callable[[float], bool], delay_s: float = 0.0
    ) -> Run:
        """Measure the tasks that *select* chooses until *ends_within* is true."""
        if delay_s and ends_within(delay_s):
            return NOT_COUNTED
        before, began_s = self.close(select), time.monotonic()
        span = self._follow(select, before, ends_within, began_s)
        wall_s = time.monotonic() - began_s
        return run_of(span, self.meter.zones, self.meter.stats, wall_s)

    def _alive(self, jobs: Jobs) -> set[tuple[int, int]]:
        """Return pid and start of the job's tasks that run."""
        return {
            mark
            for mark in jobs.marks()
            if is_alive(mark.pid, start_ticks(mark.start_ns), self.procfs)
        }

    def _follow(
        self,
        select: Select,
        before: Span,
        ends_within: Callable[[float], bool],
        began_s: float,
    ) -> Span:
        """Sum intervals until *ends_within* is true; *before* has the power before the first."""
        span, before_w = None, before.power_w
        while True:
            has_ended = ends_within(self.step_s)
            step = self.close(select)
            # What a counter has too much or too little of is of the power just before, or within.
            step.power_w, before_w = step.power_w.clip(min=before_w), step.power_w
            if self.shown:
                self.shown(time.monotonic() - began_s, step, is_last=has_ended)
            if span is None:
                span = step
            else:
                span.add(step)
            if has_ended:
                return span
