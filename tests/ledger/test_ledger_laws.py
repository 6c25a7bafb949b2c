"""What holds after each step, whatever runs, ends, moves and is named in whatever order."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import World, container, everything, record, totals_by_series, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.bounds import MaxListed
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.selection import EVERYTHING, Filter, Selection
from kepler_ebpf.model.workloads import PodLabels, UnitLabels

PIDS, STARTS, CGROUPS = st.integers(1, 3), st.sampled_from([100, 200]), st.integers(1, 5)

RECORDS = st.lists(
    st.builds(
        record,
        pid=PIDS,
        start=STARTS,
        cgroup_id=CGROUPS,
        cpu_ns=st.integers(1, 1_000),
        exec_id=st.integers(0, 1),
        process_comm=st.sampled_from([b"sh", b"work"]),
        parent_tgid=st.integers(0, 3),
        ended=st.booleans(),
    ),
    max_size=5,
)
CGROUP_NAMES = st.builds(
    lambda container_id, pod_id, unit: CgroupName(
        "/x",
        container(container_id, pod_id) if container_id else None,
        pod_id,
        (("unit", UnitLabels(unit, "systemd")),) if unit else (),
        container_id,
    ),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "p", "q"]),
    st.sampled_from(["", "u"]),
)
PROCESS_NAMES = st.builds(
    ProcessName, st.sampled_from(["", "/e", "/f"]), st.sampled_from([None, vm("m"), vm("n")])
)


def end_process(world, pid, start_ns):
    """Note that a process is gone."""
    world.ledger.ended_processes(np.array([pid], np.uint32), np.array([start_ns], np.uint64))


STEPS = st.one_of(
    st.builds(lambda now: lambda world: world.batch(*now), st.lists(RECORDS, min_size=1)),
    st.builds(lambda now: lambda world: world.credit(*now), RECORDS),
    st.builds(lambda s: lambda world: world.interval(seconds=s), st.integers(1, 40)),
    st.builds(lambda id_: lambda world: world.ledger.ended_cgroups([id_]), CGROUPS),
    st.builds(lambda *one: lambda world: end_process(world, *one), PIDS, STARTS),
    st.builds(
        lambda *name: lambda world: world.ledger.relabel_cgroup(*name), CGROUPS, CGROUP_NAMES
    ),
    st.builds(
        lambda *name: lambda world: world.ledger.relabel_process(*name),
        PIDS,
        STARTS,
        PROCESS_NAMES,
    ),
    st.builds(
        lambda old, new: lambda world: world.ledger.relabel_pod(old, PodLabels(new, "n", "s")),
        st.sampled_from(["p", "q"]),
        st.sampled_from(["p", "q", "r"]),
    ),
    st.builds(
        lambda id_, name: lambda world: world.names.cgroups.update({id_: name}),
        CGROUPS,
        CGROUP_NAMES,
    ),
    st.builds(
        lambda pid, name: lambda world: world.names.processes.update({pid: name}),
        PIDS,
        PROCESS_NAMES,
    ),
)
RETENTIONS = st.builds(
    Retention,
    for_s=st.sampled_from([0.0, 1.5, 30.0]),
    most=st.sampled_from([-1, 0, 1, 2]),
    min_uj=st.sampled_from([0.0, 600.0]),
)


PLACES = st.builds(MaxListed, st.sampled_from([1, 3, 100]), st.sampled_from([1, 2, 100]))
SELECTIONS = st.builds(
    Selection,
    top_n=st.sampled_from([0, 1, 2]),
    min_uj=st.sampled_from([0.0, 500.0]),
    comm=st.sampled_from([EVERYTHING, Filter(deny=["s."]), Filter(allow=["wo.*"])]),
    cgroup=st.sampled_from([EVERYTHING, Filter(deny=["/[12]"]), Filter(allow=["/x"])]),
    namespace=st.sampled_from([EVERYTHING, Filter(deny=["s"]), Filter(allow=["s", ""])]),
    always=st.sampled_from([0, 2]),
)


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
