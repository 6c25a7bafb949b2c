"""The arithmetic of `stat`: measured tasks and the rest are the node, and errors are bounded."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from intervals import interval_of, measured_of, tasks_of

from kepler_ebpf.model.energy import MeterStats, Zone
from kepler_ebpf.stat.tally import ACTIVE, IDLE, JOB, UNOWNED, error_of, run_of, span_of

PACKAGE = (Zone("package", 0, "p0"), Zone("package", 1, "p1"), Zone("dram", 0, "d0"))
ONE = (Zone("package", 0, "p"),)
COUNTER = MeterStats("rapl", is_estimate=False, update_s=0.0011, unit_uj=61.0)
SECOND_NS = 10**9

cpu_ns = st.integers(0, 10**9)
energy_uj = st.floats(0, 1e8)


def first(records):
    """Choose the first record of each interval's pair."""
    return np.arange(len(records)) % 2 == 0


@given(
    st.lists(st.tuples(cpu_ns, cpu_ns), min_size=1, max_size=4),
    st.tuples(energy_uj, energy_uj, energy_uj),
)
def test_tasks_and_rest_are_the_node(pairs, energies):
    """Joules of the tasks and of the rest add up to the node's, whatever the intervals."""
    spans = []
    for one, other in pairs:
        tasks = tasks_of((0, one), (1, other))
        interval = interval_of(energies, (one, other), (SECOND_NS - one, SECOND_NS - other))
        spans.append(span_of(measured_of((tasks, interval)), PACKAGE, first))
    span, *others = spans
    for each in others:
        span.add(each)
    run = run_of(span, PACKAGE, COUNTER, wall_s=1.0)
    assert run.cpu_s * SECOND_NS == pytest.approx(sum(one for one, _ in pairs))
    by_kind = {"package": energies[0] + energies[1], "dram": energies[2]}
    for kind, uj in by_kind.items():
        zone = run.zones[kind]
        assert zone.node_joules == pytest.approx(uj * len(pairs) / 1e6, abs=1e-9)
        parts = (zone.rest_active_joules, zone.idle_joules, zone.unowned_joules)
        rest = sum(part or 0.0 for part in parts)
        assert zone.rest_joules == pytest.approx(rest, rel=1e-6, abs=1e-9)


def span_with(job_uj):
    """Return a span in which the chosen tasks used all energy, and half a second."""
    busy_ns = SECOND_NS // 2
    tasks = tasks_of((0, busy_ns), (0, 0))
    interval = interval_of((job_uj,), (busy_ns,), (0,), lost_ns=(0,))
    return span_of(measured_of((tasks, interval)), ONE, first)


def test_time_before_the_exec_is_taken_away():
    """What is taken from the CPU time goes with its part of the energy, to the rest."""
    span = span_with(8e6)
    before_uj = span.energy_uj[JOB].copy()
    span.shorten(SECOND_NS // 8)
    assert span.cpu_ns == SECOND_NS // 2 - SECOND_NS // 8
    assert span.energy_uj[JOB] == pytest.approx(before_uj * 0.75)


def test_error_is_not_known_where_a_zone_was_not_read():
    """No bound is stated for a zone that was unreadable at one end, nor for an estimate."""
    span = span_with(8e6)
    assert error_of(span, ONE, COUNTER)[0] > 0
    assert math.isnan(error_of(span, ONE, MeterStats("estimate", is_estimate=True))[0])
    assert math.isnan(error_of(replace(span, unread=np.array([True])), ONE, COUNTER)[0])


def test_rows_of_energy_have_their_names():
    """Active, idle and unowned energy are told apart."""
    tasks = tasks_of((0, 100), (0, 100))
    interval = interval_of((1000.0,), (400,), (600,), lost_ns=(200,))
    energy = span_of(measured_of((tasks, interval)), ONE, first).energy_uj[:, 0]
    figures = [energy[row] for row in (JOB, ACTIVE, IDLE, UNOWNED)]
    assert figures == pytest.approx([100.0, 400.0, 600.0, 200.0])
    assert span_of(measured_of((tasks, interval)), ONE, first).untracked_ns == 200 + 200


def test_stated_error_of_constant_power_is_small():
    """Of 50 ms at the power from before it is 2.5 % at most: about a step of the counter."""
    watts, length_s = 45.0, 0.05
    span = replace(span_with(watts * length_s * 1e6), power_w=np.array([watts]))
    assert 0 < error_of(span, ONE, COUNTER)[0] <= 0.025 * watts * length_s


@pytest.mark.parametrize("block_ms", [5, 10, 50, 200, 1000])
@pytest.mark.parametrize("watts", [(10.0, 45.0), (45.0, 45.0), (60.0, 20.0)])
def test_stated_error_covers_the_truth(block_ms, watts):
    """A counter that moves every millisecond is within the stated error in 95 of 100 windows."""
    chance = random.Random(block_ms * 1000 + int(watts[0]))  # noqa: S311 - a simulation
    covered = 0
    for _ in range(200):
        counter = Counter(chance, watts, block_ms)
        begin_s, end_s = counter.block_s
        read_uj = [counter.read_uj(at_s) for at_s in (begin_s - 0.1, begin_s, end_s)]
        before_uj, block_uj = np.diff(read_uj)
        span = span_with(block_uj)
        length_s = end_s - begin_s
        power_w = max(before_uj / 0.1, block_uj / length_s) / 1e6
        error_j = error_of(replace(span, power_w=np.array([power_w])), ONE, COUNTER)[0]
        true_uj = counter.true_uj(end_s) - counter.true_uj(begin_s)
        covered += abs(block_uj - true_uj) / 1e6 <= error_j
    assert covered >= 190


class Counter:
    """A RAPL counter: its power changes each millisecond and is another before the block."""

    def __init__(self, chance, watts, block_ms):
        start_ms = 150 + chance.random()
        self.block_s = (start_ms / 1e3, (start_ms + block_ms) / 1e3)
        total_ms = int(start_ms + block_ms) + 3
        before_w, block_w = watts
        self._watts = [
            (before_w if ms < start_ms else block_w) * chance.uniform(0.8, 1.2)
            for ms in range(total_ms)
        ]
        self._joules = np.concatenate([[0.0], np.cumsum(self._watts) / 1e3])
        phase_ms = chance.random()
        step_ms = 1000 / 1024
        self._steps_s = [
            (phase_ms + number * step_ms + chance.uniform(-0.02, 0.02)) / 1e3
            for number in range(int(total_ms / step_ms))
        ]

    def true_uj(self, at_s):
        """Return the energy drawn until then."""
        ms = at_s * 1e3
        return (self._joules[int(ms)] + self._watts[int(ms)] * (ms % 1) / 1e3) * 1e6

    def read_uj(self, at_s):
        """Return what the counter shows then: the energy at its last step, in whole units."""
        step_s = max((each for each in self._steps_s if each <= at_s), default=0.0)
        return self.true_uj(step_s) // 61 * 61
