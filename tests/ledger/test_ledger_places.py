"""How many workloads are listed, whoever makes them, and where the rest is counted."""

import numpy as np
import pytest
from ledger_world import (
    KEEP_ALL,
    World,
    by,
    container,
    everything,
    listed,
    record,
    totals_by_series,
    vm,
)

from kepler_ebpf.ledger.cgroups import MAX_CGROUPS
from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.bounds import MaxListed
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import OTHERS, State, UnitLabels

RUNNING = State.RUNNING
GROUPS = {"container": "container_id", "pod": "pod_id", "unit": "unit"}


def world_of(
    places: int = 4, retention: Retention = KEEP_ALL, owner: str = "", count: int = 20
) -> World:
    """Return a world with *places* of each kind, and cgroups each of a workload of its own.

    Each cgroup has an owner of its own unless *owner* has all.
    """
    world = World(retention, most=MaxListed(processes=places, others=places))
    for number in range(1, count + 1):
        world.names.cgroups[number] = CgroupName(
            f"/{number}",
            container(f"c{number}", f"p{number}"),
            f"p{number}",
            (("unit", UnitLabels(f"u{number}.service", "systemd")),),
            owner or f"/{number}",
        )
    return world


def each(*numbers: int, **fields) -> list[np.ndarray]:
    """Return a record of a process in each of these cgroups."""
    return [record(number, cgroup_id=number, cpu_ns=10, **fields) for number in numbers]


@pytest.mark.parametrize("level", GROUPS)
def test_groups_beyond_the_limit_share_a_row(level: str) -> None:
    """First come, first listed; the level has everything all the same."""
    world = world_of()
    world.interval(*each(1, 2, 3))
    world.interval(*each(*range(1, 8)))
    view = world.ledger.views()[level]
    found = by(view, GROUPS[level])
    assert len(found) == 5
    assert found[OTHERS] == (30.0, 30, RUNNING)
    assert everything(view)[1] == everything(world.processes)[1] == 100


def test_vms_beyond_the_limit_share_a_row() -> None:
    """They keep their own processes."""
    world = World(most=MaxListed(processes=100, others=4))
    world.names.processes = {pid: ProcessName("/qemu", vm(f"m{pid}")) for pid in range(1, 9)}
    world.interval(*(record(pid, cpu_ns=pid) for pid in range(1, 9)))
    assert sum(uj for uj, _, _ in by(world.vms, "vm_id").values()) == 36.0
    assert OTHERS in by(world.vms, "vm_id")


def test_processes_beyond_the_limit_are_in_a_row_of_their_container() -> None:
    """So a container's processes add up to it."""
    world = world_of(count=1)
    world.interval(*(record(pid, cgroup_id=1, cpu_ns=10) for pid in range(1, 9)))
    rows = [label for label in world.processes.labels if label and label.container_id == "c1"]
    assert sorted(label.comm for label in rows) == [OTHERS, "work", "work"]
    assert everything(world.processes)[1] == by(world.containers, "container_id")["c1"][1] == 80


def test_one_owner_has_half_of_the_places_at_most() -> None:
    """Whoever comes later finds room, however many workloads the first one makes."""
    world = world_of(places=8, owner="/user.slice/user-1000.slice")
    world.names.cgroups[20] = CgroupName("/real", container("real", "real"), owner="/real")
    world.interval(*each(*range(1, 20)))
    world.interval(*each(*range(1, 21)))
    for level in ("container", "pod", "process"):
        view = world.ledger.views()[level]
        assert len([label for label in listed(view) if OTHERS not in repr(label)]) == 5
    assert "real" in by(world.containers, "container_id")
    assert 20 in by(world.processes, "pid")


def test_a_place_is_free_again_when_its_workload_is_listed_no_longer() -> None:
    """What came meanwhile is listed from then on; what it used before stays where it was."""
    world = world_of(places=1, retention=Retention(for_s=0.0, most=0, min_uj=0.0))
    world.interval(*each(1, 2))
    assert set(by(world.containers, "container_id")) == {"c1", OTHERS}
    world.ledger.ended_cgroups([1])
    world.interval(*each(1, ended=True))
    world.interval(*each(3, 2))
    assert by(world.containers, "container_id") == {"c3": (10.0, 10, RUNNING), OTHERS: (20, 20, 1)}
    assert everything(world.containers)[1] == 50
    assert by(world.processes, "pid")[2][1] == 10


def test_the_row_of_the_others_stays_and_never_falls() -> None:
    """It ends with the last of them, is listed on, and goes on when another comes."""
    world = world_of(places=1, retention=Retention(for_s=0.0, most=0, min_uj=0.0))
    world.interval(*each(1, 2, 3))
    world.ledger.ended_cgroups([1, 2, 3])
    world.interval()
    for _ in range(4):
        world.interval()
    assert by(world.containers, "container_id") == {OTHERS: (20.0, 20, State.TERMINATED)}
    world.interval(*each(4, 5))
    assert by(world.containers, "container_id")[OTHERS] == (30.0, 30, RUNNING)


def test_a_workload_that_is_called_others_is_no_second_row() -> None:
    """No two rows have the same labels, whatever a stranger calls his container."""
    world = world_of(places=2)
    world.names.cgroups[3] = CgroupName("/3", container(OTHERS), owner="/3")
    world.interval(*each(3))
    world.interval(*each(1, 2, 3, 4))
    totals_by_series(world)
    assert by(world.containers, "container_id")[OTHERS] == (30.0, 30, RUNNING)


def test_each_refusal_is_counted_and_the_first_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By level; a level with room has none."""
    world = world_of(places=2, count=5)
    world.interval(*each(1, 2, 3, 4, 5))
    world.interval(*each(1, 2, 3, 4, 5))
    counts = {limit.name: limit.count for limit in world.ledger.limits}
    assert counts == {"cgroup": 0, "process": 6, "container": 3, "vm": 0, "pod": 3, "unit": 3}
    assert len([line for line in caplog.messages if line.startswith("limit container")]) == 1


def test_cgroups_beyond_the_limit_are_counted_in_no_container() -> None:
    """Their number is bounded as well, and what they use is in the rows of processes."""
    world = World()
    count = MAX_CGROUPS // 2 + 5
    records = np.repeat(record(cpu_ns=1), count)
    records["cgroup_id"] = np.arange(1, count + 1)
    for number in records["cgroup_id"].tolist():
        world.names.cgroups[number] = CgroupName("/x", container("one"), owner="/x")
    world.interval(records)
    assert everything(world.cgroups)[1] == everything(world.processes)[1] == count
    assert by(world.containers, "container_id")["one"][1] == MAX_CGROUPS // 2
    assert {limit.name: limit.count for limit in world.ledger.limits}["cgroup"] == 5
