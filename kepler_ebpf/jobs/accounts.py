"""The jobs that are open in a loop: each is credited with its part of what the ledger gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from kepler_ebpf.jobs.peers import Process
from kepler_ebpf.kernel.layout import JOB_SHIFT
from kepler_ebpf.model.arrays import Bools, Ints, Records
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import Meter, Zone
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.names.processes.procfs import NS_PER_TICK
from kepler_ebpf.stat.tally import Span, attributed_span

MIN_STEP_S = 0.05
"""Jobs begin and end no sooner than this after the last time that any did. A finer step would let
callers see what others compute."""

PAUSES = 9
"""And no sooner than so many times what the last time has cost: a tenth of a CPU at most."""


MAX_IDS = 4_096
"""Marks of a job, beyond which those are forgotten that no task has any more."""


class State(Enum):
    """Where a job is in its life; ``JobAccounts.turn`` takes it on."""

    BEFORE = auto()
    """The next interval has the power just before the job."""
    READY = auto()
    OPEN = auto()
    ENDING = auto()
    ENDED = auto()


MOVES = {State.BEFORE: State.READY, State.READY: State.OPEN, State.ENDING: State.ENDED}


@dataclass(slots=True, eq=False)
class Job:
    """What *process* has asked to be measured: itself or its *thread*, its *children* too or only.

    ``ids`` are the marks of its children. ``span`` sums the intervals of the job, ``before`` those
    just before.
    """

    process: Process
    thread: int | None = None
    children: bool = False
    only_children: bool = False
    state: State = State.BEFORE
    ids: set[int] = field(default_factory=set)
    before: Span | None = None
    span: Span | None = None
    tasks: int = 0
    _seen: Ints = field(default_factory=lambda: np.zeros(0, np.uint64))
    _latest: tuple[int, int] = (0, 0)

    def select(self, records: Records) -> Bools:
        """Return which of *records* (N,), of dtype ``layout.TASK``, are the job's."""
        ticks = records["process_start_ns"] // NS_PER_TICK
        is_own = (records["tgid"] == self.process.pid) & (ticks == self.process.start_ticks)
        wanted = records["pid"] == self.thread if self.thread is not None else is_own
        marks, place = np.unique(records["flags"] >> np.uint32(JOB_SHIFT), return_inverse=True)
        is_in = np.array([mark in self.ids for mark in marks.tolist()], np.bool_)[place]
        chosen: Bools = np.where(is_own, wanted & (not self.only_children), is_in)
        return chosen

    def add(self, measured: Measured, attribution: Attribution, zones: tuple[Zone, ...]) -> None:
        """Add one interval."""
        chosen = self.select(measured.records)
        span = attributed_span(measured, attribution, zones, chosen)
        name = "before" if self.state in {State.BEFORE, State.READY} else "span"
        if name == "span":
            self._count(np.unique(measured.records["start_ns"][chosen]))
        sum_ = getattr(self, name)
        if sum_ is None:
            setattr(self, name, span)
        else:
            sum_.add(span)

    def _count(self, starts: Ints) -> None:
        """Count the tasks that are new, without keeping all: starts rise.

        One that has waited for more than a whole interval between its start and its first slice is
        not counted.
        """
        earlier, latest = self._latest
        self.tasks += int(np.isin(starts[starts > earlier], self._seen, invert=True).sum())
        self._seen, self._latest = starts, (latest, max(latest, int(starts.max(initial=0))))


class Accounts:
    """All jobs. ``credit`` and ``turn`` are the loop's, the others those of one other thread."""

    def __init__(
        self, meter: Meter, end_now: Callable[[], None], turned: Callable[[], None]
    ) -> None:
        """*end_now* makes the loop end an interval and call ``turn`` soon, which calls *turned*."""
        self.meter = meter
        self._end_now = end_now
        self._turned = turned
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._next_s = time.monotonic()

    # --- the loop

    def credit(self, measured: Measured, attribution: Attribution) -> None:
        """Add each interval to the jobs that are open then."""
        if not self._jobs:
            return
        with self._lock:
            for index, interval in enumerate(measured.intervals):
                rows, one = measured.interval_of == index, slice(index, index + 1)
                records = measured.records[rows]
                part = Measured(records, np.zeros(len(records), np.intp), (interval,))
                its = Attribution(
                    kinds=attribution.kinds,
                    shares_uj=attribution.shares_uj[rows],
                    active_uj=attribution.active_uj[one],
                    idle_uj=attribution.idle_uj[one],
                    unattributed_uj=attribution.unattributed_uj[one],
                )
                for job in self._jobs:
                    if job.state is not State.ENDED:
                        job.add(part, its, self.meter.zones)

    def turn(self, cost_s: float) -> None:
        """Take each job that waits on by one state."""
        with self._lock:
            for job in self._jobs:
                if job.state is State.BEFORE:  # What it has is of any length.
                    job.before = None
                job.state = MOVES.get(job.state, job.state)
        self._next_s = time.monotonic() + max(MIN_STEP_S, PAUSES * cost_s)
        self._turned()

    # --- the other thread

    def add(self, job: Job) -> None:
        """Begin *job* soon: it is OPEN then."""
        if not self.meter.stats.update_s:
            job.state = State.READY
        with self._lock:
            self._jobs.append(job)

    def end(self, job: Job) -> None:
        """End *job* soon: it is ENDED then."""
        with self._lock:
            job.state = State.ENDING

    def drop(self, job: Job) -> None:
        """Forget *job*."""
        with self._lock:
            self._jobs.remove(job)

    def having(self, mark: int) -> list[Job]:
        """Return the jobs that go on and have tasks with *mark*."""
        over = {State.ENDING, State.ENDED}
        return [job for job in self._jobs if mark in job.ids and job.state not in over]

    def forget_marks(self, live: Callable[[], set[int]]) -> None:
        """Forget the marks that no task has, where there are many; those that have are *live*.

        At a turn: what had them before is credited.
        """
        large = [job for job in self._jobs if len(job.ids) > MAX_IDS]
        if large:
            has = live()
            for job in large:
                job.ids &= has

    @property
    def are_none(self) -> bool:
        """Whether there is no job."""
        return not self._jobs

    def wait_s(self) -> float | None:
        """Return when the loop may be asked for a turn, None where no job waits for one."""
        if not any(job.state in MOVES for job in self._jobs):
            return None
        return max(0.0, self._next_s - time.monotonic())

    def ask(self) -> None:
        """Have a turn soon."""
        self._next_s = time.monotonic() + 1.0  # and again, where the meter cannot be read
        self._end_now()
