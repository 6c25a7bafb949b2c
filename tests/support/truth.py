"""CPU time as the kernel's own accounting has it, to hold ours against.

The kernel leaves out what a hypervisor took from a running task, and on a busy host that can be a
tenth and more. We count it as the task's, since nobody else could run there. So what was stolen
meanwhile is how much more than the kernel's figure ours may be. Some virtual machines hide the
switches to PID 1 and from it: what it used is then the task's that ran before and after it.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

NS_PER_S = 1_000_000_000
EXIT_NS = 500_000
"""The kernel closes a process's own account this long before its last switch, or less."""
TICKS_NS = 20_000_000
"""Stolen time is told in ticks of 10 ms, at the start and at the end."""


def init_ns() -> int:
    """Read the CPU time that PID 1 has used so far, also in threads that have ended."""
    cpu_clock = ~1 << 3 | 2  # of a process: see clock_getcpuclockid(3)
    return time.clock_gettime_ns(cpu_clock)


def stolen_ns() -> int:
    """CPU time that the hypervisor took from this host's CPUs so far, to a tick, and PID 1's."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) * NS_PER_S // os.sysconf("SC_CLK_TCK") + init_ns()


def may_be_hidden(missing_s: Iterable[float], hidden_s: float) -> bool:
    """Whether what the kernel says was used, and nobody was charged with, is counted as hidden.

    Up to a fifth of it is the way out of idle.
    """
    return sum(missing_s) * 0.8 <= hidden_s


@dataclass(frozen=True, slots=True)
class Truth:
    """The least and the most that the kernel says was used, and what was taken or hidden meanwhile.

    The kernel adds the way out of idle to the task that was woken; we leave that to idle.
    """

    least_ns: int
    most_ns: int
    stolen_ns: int

    def is_met_by(self, charged_ns: int, within: float = 0.01, lost_ns: int = 0) -> bool:
        """Whether a charge is right, but for a share and what ticks and one exit may hide.

        *lost_ns* was said to be lost, and may have been this one's.
        """
        most_ns = self.most_ns * (1 + within) + self.stolen_ns + TICKS_NS
        least_ns = self.least_ns * (1 - within) - EXIT_NS - lost_ns
        return least_ns <= charged_ns <= most_ns


class Stopwatch:
    """Notes at its start what was stolen before, so that figures since then can be judged."""

    def __init__(self) -> None:
        """Start."""
        self._before_ns = stolen_ns()

    @property
    def stolen_ns(self) -> int:
        """What was stolen since the start, or was PID 1's."""
        return stolen_ns() - self._before_ns

    def truth(self, used_ns: float, most_ns: float | None = None) -> Truth:
        """Return the truth of CPU time used since the start: a figure, or what it lies between."""
        return Truth(int(used_ns), int(used_ns if most_ns is None else most_ns), self.stolen_ns)

    def agree(
        self,
        counted_s: float,
        used_s: float,
        most_s: float | None = None,
        *,
        within: float = 0.1,
        lost_s: float = 0.0,
    ) -> bool:
        """Whether seconds that were counted since the start are those that the kernel saw used."""
        truth = self.truth(used_s * NS_PER_S, None if most_s is None else most_s * NS_PER_S)
        return truth.is_met_by(int(counted_s * NS_PER_S), within, int(lost_s * NS_PER_S))


@pytest.fixture
def stopwatch() -> Stopwatch:
    """Return what judges CPU time that is used during this test."""
    return Stopwatch()
