"""The result for people, and what programs read where nothing was counted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kepler_ebpf.model.energy import MeterStats, Zone
from kepler_ebpf.stat.result import NOT_COUNTED, Result, Run, ZoneEnergy
from kepler_ebpf.stat.separated import Separated
from kepler_ebpf.stat.tally import Span, interval_of
from kepler_ebpf.stat.text import go_benchmark, interval_row, table

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
MEASURED = ZoneEnergy(
    joules=10.0,
    error_joules=0.1,
    rest_joules=10.0,
    rest_active_joules=5.0,
    idle_joules=3.0,
    unowned_joules=2.0,
    mean_watts=10.0,
    peak_watts=20.0,
)
RUN = Run(1.0, 0.5, tasks=10, switches=20, untracked_s=0.0, zones={"package": MEASURED})
COUNTER = MeterStats("rapl", is_estimate=False, update_s=0.001, unit_uj=0.0)


def result_of(*runs, **fields):
    """Return a result of a meter that measures."""
    about: dict[str, Any] = {"meter": "rapl", "estimate": False, "host": {}} | fields
    return Result(("true",), "true", runs, **about)


def with_zone(kind="package", **figures):
    """Return the run with other figures of a kind of zone."""
    return replace(RUN, zones={**RUN.zones, kind: replace(MEASURED, **figures)})


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


# --- repeated runs ----------------------------------------------------------------------------


def test_repeated_runs_have_what_one_has():
    """The error and the peak are the largest, all else is the mean: the rest, tasks, switches."""
    other = with_zone(
        joules=12.0, error_joules=0.3, rest_joules=20.0, rest_active_joules=15.0, peak_watts=30.0
    )
    written = table(result_of(RUN, replace(other, tasks=20, switches=40)))
    assert "11.00 J ± 0.30   42.3 % of the node's 26.00 J" in written
    assert "10.0 W mean, 30.0 W peak" in written
    assert "0.500 s in 15 tasks, 30 context switches;" in written
    assert "rest of the machine (package): 10.00 J active, 3.000 J idle, 2.000 J with" in written


def lines_with(note, result):
    """Return the lines for people that have the note."""
    return [line for line in table(result).splitlines() if note in line]


def test_rest_that_is_not_known_for_a_run_is_not_shown():
    """Of a run that ended too soon for its caller to know it."""
    short = dict.fromkeys(
        ("rest_joules", "rest_active_joules", "idle_joules", "unowned_joules"), None
    )
    written = table(result_of(RUN, with_zone(**short)))
    assert "10.00 J ± 0.10 " in written
    assert "of the node" not in written
    assert "rest of the machine" not in written


UNREAD = "could not be read at one end"
UNTRACKED = "0.200 s of the machine's CPU time could not be tracked by task"


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (with_zone(error_joules=None), UNREAD),
        (with_zone("dram", error_joules=None), UNREAD),
        (with_zone(error_joules=1.0), "Too short to be exact"),
        (replace(RUN, untracked_s=0.2), UNTRACKED),
        (NOT_COUNTED, "Nothing was counted"),
        (replace(RUN, tasks=0), "No task of true ran"),
    ],
    ids=range(6),
)
def test_what_weakens_a_run_is_told_once_with_how_many_runs_it_was(run, note):
    """Whichever run it was; of one run alone no number is needed."""
    clean = replace(RUN, zones=dict.fromkeys(run.zones or RUN.zones, MEASURED))
    (line,) = lines_with(note, result_of(clean, run, clean, run))
    assert line.endswith(" (2 of 4 runs).")
    (line,) = lines_with(note, result_of(run))
    assert "runs" not in line
    assert not lines_with(note, result_of(clean, clean))


def test_runs_that_failed_are_counted():
    """A status other than 0 is of one line."""
    failed = replace(RUN, exit_status=3)
    written = table(result_of(RUN, failed, failed))
    assert "exit status was not 0 (2 of 3 runs)" in written


# --- what was not counted ---------------------------------------------------------------------


def test_runs_that_were_not_counted_are_in_no_mean():
    """The mean is that of the others."""
    written = table(result_of(RUN, NOT_COUNTED, RUN))
    assert " 2 runs of: true" in written
    assert "10.00 J" in written


def test_runs_that_were_not_counted_have_no_figures_for_programs():
    """CSV has a line with empty figures; benchstat gets none, since 0 J is no figure."""
    result = result_of(NOT_COUNTED, RUN)
    lines = Separated(",", with_intervals=False).lines
    text = "".join(lines(1, run, "rapl", is_estimate=False) for run in result.runs)
    header, first, second = (line.split(",") for line in text.splitlines())
    assert dict(zip(header, first, strict=True))["joules"] == ""
    assert dict(zip(header, second, strict=True))["joules"] == "10.0"
    assert go_benchmark(result).count("Benchmark") == 1
    assert "Unit package-J " in go_benchmark(result)


# --- rows -------------------------------------------------------------------------------------


def row(meter, **fields):
    """Return the row of a second in which the tasks used half of 20 J at up to 30 W."""
    figures: dict[str, Any] = {
        "length_s": 1.0,
        "cpu_ns": 10**9,
        "switches": 1,
        "untracked_ns": 0,
        "energy_uj": np.array([[10e6], [20e6], [0.0], [0.0]]),
        "power_w": np.array([30.0]),
        "peak_w": np.array([10.0]),
        "unread": np.array([False]),
        "tasks": set(),
    }
    interval = interval_of(Span(**figures | fields), (Zone("package", 0, "p"),), meter, at_s=1.0)
    return interval_row(interval, is_estimate=meter.is_estimate)


def test_row_has_the_error_of_its_interval():
    """A zone that was not read has none, and an estimate is labelled."""
    assert "10.0000 J ± 0.0150   10.000 W" in row(COUNTER)
    assert "10.0000 J   10.000 W" in row(COUNTER, unread=np.array([True]))
    assert "10.0000 J estimate   10.000 W" in row(MeterStats("estimate", is_estimate=True))


def test_row_has_the_time_that_was_not_tracked():
    """Where there was any."""
    assert "untracked 0.500 s" in row(COUNTER, untracked_ns=5 * 10**8)
    assert "untracked" not in row(COUNTER)
