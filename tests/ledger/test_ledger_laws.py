"""What holds after each step, whatever runs, ends, moves and is named in whatever order."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ledger_lives import PLACES, RETENTIONS, SELECTIONS, STEPS
from ledger_world import KEEP_ALL, World, container, everything, record, totals_by_series

from kepler_ebpf.ledger.candidates import REST_S
from kepler_ebpf.model.bounds import DEFAULT_MAX
from kepler_ebpf.model.names import CgroupName


@given(st.lists(STEPS, max_size=20), RETENTIONS, st.sampled_from([1.0, 0.1]), PLACES, SELECTIONS)
def test_nothing_is_lost_doubled_or_taken_back(steps, retention, uj_per_ns, most, selection):
    """Processes and cgroups have all; no other level has more; no series falls or is twice."""
    world = World(retention, uj_per_ns, most, selection)
    before: dict[Any, float] = {}
    for step in steps:
        step(world)
        credited_uj = world.ledger.node(0.0).active_uj - world.ledger.node(0.0).unattributed_uj
        for view in (world.processes, world.cgroups):
            np.testing.assert_allclose(everything(view)[0], credited_uj, rtol=1e-9, atol=1e-6)
        credited_ns = everything(world.processes)[1]
        for view in (world.containers, world.pods, world.vms, world.units):
            assert (view.energy_uj >= 0).all()
            assert everything(view)[1] <= credited_ns
        now = totals_by_series(world)
        assert all((now.get(key, total) >= total).all() for key, total in before.items())
        before = now


@given(st.lists(STEPS, max_size=20), RETENTIONS, PLACES, SELECTIONS)
def test_the_rows_of_an_interval_add_up_to_it(steps, retention, most, selection):
    """Those of processes and those of tasks: what is shown of one interval, and all since start."""
    world = World(retention, most=most, selection=selection, with_tasks=True)
    for step in steps:
        step(world)
        node = world.ledger.node(0.0)
        used_uj = node.interval_active_uj - node.interval_unattributed_uj
        for view in (world.processes, world.tasks):
            np.testing.assert_allclose(view.ran_uj.sum(axis=0), used_uj, rtol=1e-9, atol=1e-6)
            credited_uj = node.active_uj - node.unattributed_uj
            np.testing.assert_allclose(view.energy_uj.sum(axis=0), credited_uj, rtol=1e-9)


CONTAINER_OF = {1: "", 2: "", 3: "a", 4: "a", 5: "b"}
"""The container of each cgroup."""

SHORT_COMMANDS = st.lists(
    st.builds(
        lambda pid, start, cpu_ns, *, ended: record(
            pid, cpu_ns, start=start, cgroup_id=pid % 5 + 1, ended=ended
        ),
        pid=st.integers(1, 12),
        start=st.integers(1, 9),
        cpu_ns=st.integers(1, 1_000),
        ended=st.booleans(),
    ),
    max_size=8,
)


def world_of_containers(retention, most, selection):
    """Return a world whose cgroups have their names from the start."""
    world = World(retention, most=most, selection=selection)
    for cgroup_id, name in CONTAINER_OF.items():
        world.names.cgroups[cgroup_id] = CgroupName(
            f"/{cgroup_id}", container(name) if name else None
        )
    return world


def rows_with_uj(view):
    """Return the label of each row, and its package µJ."""
    return zip(view.labels, view.energy_uj[:, 0].tolist(), strict=True)


@given(st.lists(SHORT_COMMANDS, max_size=12), RETENTIONS, PLACES, SELECTIONS)
def test_the_processes_of_a_container_add_up_to_it(batches, retention, most, selection):
    """On every page, with those that are listed no longer or never were; ended ones too."""
    world = world_of_containers(retention, most, selection)
    for batch in batches:
        world.interval(*batch)
        sums: dict[str, float] = {}
        for label, uj in rows_with_uj(world.processes):
            if label:
                sums[label.container_id] = sums.get(label.container_id, 0.0) + uj
        for label, uj in rows_with_uj(world.containers):
            if label:
                np.testing.assert_allclose(sums.pop(label.container_id, 0.0), uj, rtol=1e-9)
        assert set(sums) <= {""}


@given(st.lists(SHORT_COMMANDS, max_size=12), RETENTIONS, PLACES, SELECTIONS)
def test_all_that_is_used_rises_once_outside_of_the_retired(batches, retention, most, selection):
    """Who reads every page may sum the increases of all rows but [retired]."""
    world = world_of_containers(retention, most, selection)
    before: dict[Any, float] = {}
    for batch in batches:
        world.interval(*batch)
        now = {
            (label.pid, label.comm, label.exe, label.container_id): uj
            for label, uj in rows_with_uj(world.processes)
            if label and label.comm != "[retired]"
        }
        rise_uj = sum(uj - before.get(key, 0.0) for key, uj in now.items())
        np.testing.assert_allclose(rise_uj, sum(int(one["cpu_ns"][0]) for one in batch), atol=1e-6)
        before = now


@given(st.lists(st.tuples(SHORT_COMMANDS, st.sampled_from([1.0, 400.0])), max_size=12), SELECTIONS)
def test_a_series_that_comes_back_starts_again_after_ten_minutes(batches, selection):
    """No sooner has Prometheus forgotten the earlier one."""
    world = world_of_containers(KEEP_ALL, DEFAULT_MAX, selection)
    last: dict[Any, tuple[float, float]] = {}
    for batch, seconds in batches:
        world.interval(*batch, seconds=seconds)
        for label, uj in rows_with_uj(world.processes):
            if label:
                key = (label.pid, label.comm, label.exe, label.container_id)
                seen_s, had_uj = last.get(key, (-REST_S, 0.0))
                assert uj >= had_uj or world.now_s - seen_s >= REST_S
                last[key] = world.now_s, uj
