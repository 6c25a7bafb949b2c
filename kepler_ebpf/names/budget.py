"""Names within a time budget: an interval never waits for more /proc than it can afford.

What there was no time for keeps its kernel-given name and is asked for after the interval is
published, in the time that is left before the next one.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kepler_ebpf.model.names import CgroupName, Naming, ProcessName
from kepler_ebpf.model.workloads import PodLabels
from kepler_ebpf.names.resolver import NameResolver

BUDGET_SHARE = 0.1
"""Part of an interval that naming may take before it is published."""

MARGIN_S = 0.002
"""Naming after publication stops so long before the next tick."""

MAX_POSTPONED = 20_000
"""Beyond it the oldest is given up: it keeps the name the kernel gave."""

Process = tuple[int, int]
"""pid and start of a process."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """Better names than were given before, by what was asked about."""

    cgroups: dict[int, CgroupName]
    pods: dict[str, PodLabels]
    processes: dict[Process, ProcessName]


class NameBudget(Naming):
    """A ``Naming`` that postpones processes once the interval's budget is spent."""

    def __init__(
        self, naming: NameResolver, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._naming = naming
        self._clock = clock
        self._left_s = 0.0
        self._unmet: deque[int] = deque(maxlen=MAX_POSTPONED)
        self._postponed: OrderedDict[Process, tuple[str, CgroupName]] = OrderedDict()
        self._found: dict[Process, ProcessName] = {}

    def begin_interval(self, interval_s: float) -> None:
        """Grant the budget of a new interval of that length."""
        self._left_s = interval_s * BUDGET_SHARE

    def meet(self, cgroup_ids: Iterable[int]) -> None:
        """Have what will soon be gone of new cgroups read when there is time."""
        self._unmet.extend(cgroup_ids)

    def cgroup(self, cgroup_id: int) -> CgroupName:
        """See ``Naming``; never postponed, there are few and their energy hangs on it."""
        return self._naming.cgroup(cgroup_id)

    def pod(self, pod_id: str) -> PodLabels:
        """See ``Naming``."""
        return self._naming.pod(pod_id)

    def process(self, tgid: int, start_ns: int, comm: str, cgroup: CgroupName) -> ProcessName:
        """See ``Naming``; empty when there is no time, and then in a later ``renewed``."""
        # A name found before this question is older than what it asks for: the process may
        # have called exec since.
        self._found.pop((tgid, start_ns), None)
        if self._left_s <= 0:
            self._postpone((tgid, start_ns), comm, cgroup)
            return ProcessName()
        self._postponed.pop((tgid, start_ns), None)
        began_s = self._clock()
        name = self._naming.process(tgid, start_ns, comm, cgroup)
        self._left_s -= self._clock() - began_s
        return name

    def work(self, remaining_s: Callable[[], float]) -> None:
        """Do what was postponed for as long as *remaining_s* allows.

        New cgroups come first, then processes, the newest first.
        """
        while self._unmet and remaining_s() > MARGIN_S:
            self._naming.meet(self._unmet.popleft())
        while self._postponed and remaining_s() > MARGIN_S:
            process, (comm, cgroup) = self._postponed.popitem()
            self._found[process] = self._naming.process(*process, comm, cgroup)

    def renewed(self) -> Renewed:
        """Return what is known better by now; call it once an interval."""
        found, self._found = self._found, {}
        renewed = self._naming.renewed()
        return Renewed(renewed.cgroups, renewed.pods, found)

    def _postpone(self, process: Process, comm: str, cgroup: CgroupName) -> None:
        self._postponed[process] = (comm, cgroup)
        if len(self._postponed) > MAX_POSTPONED:
            self._postponed.popitem(last=False)
