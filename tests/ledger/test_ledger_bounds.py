"""What the ledger holds is bounded, and no counter falls, however long it runs."""

import gc
import tracemalloc

import numpy as np
import pytest
from ledger_world import World, container, record, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.names import CgroupName, ProcessName


def live(world: World, number: int) -> None:
    """Let a batch have a container that comes and goes, and pids that are used again."""
    cgroup_id = 100 + number
    world.names.cgroups = {cgroup_id: CgroupName("/c", container(f"c{number}", f"p{number}"))}
    world.names.processes = {12: ProcessName("/qemu", vm(f"m{number}"))}
    world.batch(
        [record(cpu_ns=5)],
        [
            *(record(pid, start=number * 10, ended=True) for pid in range(20, 25)),
            record(12, start=number * 10, cgroup_id=cgroup_id),
        ],
    )
    world.ledger.ended_cgroups([cgroup_id])
    world.names.asked.clear()


def memory_bytes() -> int:
    """Return what Python has allocated since tracing started, without what it keeps for reuse."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture
def _traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
def test_memory_does_not_grow_without_a_reader():
    """A node whose metrics nobody reads keeps what it lists, and nothing of what has passed."""
    world = World(Retention(for_s=120.0, most=20, min_uj=0.0))
    for number in range(1, 200):
        live(world, number)
    before = memory_bytes()
    for number in range(200, 600):
        live(world, number)
    assert memory_bytes() - before < 30_000


@pytest.mark.usefixtures("_traced")
def test_memory_does_not_grow_within_an_interval():
    """Readers that come often in a long interval add to what is there."""
    world = World()
    world.credit(record())
    before = memory_bytes()
    for _ in range(500):
        world.credit(record())
    assert memory_bytes() - before < 10_000


def test_the_retired_of_processes_do_not_fall_by_a_last_bit():
    """The sum over containers is the same after one of them is listed no longer, or more."""
    world = World(Retention(for_s=0.0, most=0, min_uj=0.0))
    for pid in range(2, 8):
        world.names.cgroups[pid] = CgroupName("/c", container(f"c{pid}"))
        world.interval(record(pid, cgroup_id=pid, ended=True), uj=0.1 * pid)
    before = world.processes.retired_uj
    for pid in reversed(range(2, 8)):
        world.ledger.ended_cgroups([pid])
        world.interval()
        assert (world.processes.retired_uj >= before).all()
        before = world.processes.retired_uj
    np.testing.assert_allclose(before, [2.7, 0.675])
