"""Tasks have what was used, each by itself, and are bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import World, record

from kepler_ebpf.ledger import tasks
from kepler_ebpf.model.workloads import State


def of_tasks(world):
    """Return the view of the tasks."""
    shown = world.ledger.tasks()
    assert shown is not None
    return shown


def ran(world):
    """Return the CPU time of each task in the interval that is shown, by its name."""
    shown = of_tasks(world)
    pairs = zip(shown.ran_rows.tolist(), shown.ran_cpu_ns.tolist(), strict=True)
    return {shown.labels[row].title.strip(): cpu_ns for row, cpu_ns in pairs}


def test_threads_are_tasks():
    """Each thread is a row, with the process that it is of; what it is called may change."""
    world = World(with_tasks=True)
    world.interval(record(10, 5), record(10, 7, thread=11, start=20_000, comm=b"old"))
    assert ran(world) == {"10 work": 5, "11 old of 10 work": 7}
    world.interval(record(10, 9, thread=11, start=20_000, comm=b"new"))
    assert ran(world) == {"11 new of 10 work": 9}
    assert of_tasks(world).cpu_ns.sum() == 21


def test_what_ended_is_listed_once():
    """A task whose process ended is shown with its last interval, and its energy stays."""
    world = World(with_tasks=True)
    world.interval(record(10, 5, ended=True))
    shown = of_tasks(world)
    assert shown.state[shown.ran_rows[0]] == State.TERMINATED
    world.interval(record(20, 1))
    world.interval(record(20, 1))
    shown = of_tasks(world)
    assert [label.pid for label in shown.labels if label] == [0, 20]
    assert shown.cpu_ns.sum() == 7


def test_tasks_with_a_row_are_bounded(monkeypatch):
    """Where there is no place those that did not run make it, and the rest is one row."""
    monkeypatch.setattr(tasks, "MAX_TASKS", 3)
    world = World(with_tasks=True)
    world.interval(*(record(pid, 1) for pid in (10, 20, 30)))
    world.interval(record(10, 1))
    world.interval(record(10, 1), *(record(pid, 1) for pid in (40, 50, 60)))
    assert len(of_tasks(world).labels) <= 4
    assert sum(ran(world).values()) == 4
    assert of_tasks(world).cpu_ns.sum() == 8


RECORDS = st.builds(
    record,
    pid=st.integers(1, 4),
    cpu_ns=st.integers(1, 1000),
    thread=st.integers(1, 6),
    ended=st.booleans(),
)


@given(st.lists(st.lists(RECORDS, min_size=1, max_size=8), max_size=6))
def test_nothing_is_lost(intervals):
    """Tasks have what processes have, in the interval that is shown and in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "MAX_TASKS", 4)
        world = World(with_tasks=True)
        for records in intervals:
            world.interval(*records)
            shown, wanted = of_tasks(world), world.ledger.views()["process"]
            np.testing.assert_allclose(shown.energy_uj.sum(axis=0), wanted.energy_uj.sum(axis=0))
            np.testing.assert_allclose(shown.ran_uj.sum(axis=0), wanted.ran_uj.sum(axis=0))


def test_there_are_tasks_only_on_request():
    """Who does not look at tasks does not count them."""
    world = World()
    world.interval(record(10, 5))
    assert world.ledger.tasks() is None
