"""The result for people."""

import pytest

from kepler_ebpf.stat.result import Result, Run, ZoneEnergy
from kepler_ebpf.stat.text import table

ZONE = ZoneEnergy(
    joules=1.0,
    error_joules=None,
    rest_joules=None,
    rest_active_joules=None,
    idle_joules=None,
    unowned_joules=None,
    mean_watts=1.0,
    peak_watts=1.0,
)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 task, 1 context switch;"),
        (0, "0 tasks, 0 context switches;"),
        (1234, "1,234 tasks, 1,234 context switches;"),
    ],
)
def test_counts_have_their_number(count, words):
    """One of a thing is in the singular."""
    run = Run(1.0, 1.0, tasks=count, switches=count, untracked_s=0.0, zones={"package": ZONE})
    result = Result(("true",), "true", (run,), meter="estimate", estimate=True, host={})
    assert words in table(result)
