"""What the ledger holds is bounded, and no counter falls, however long it runs."""

import gc
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import KEEP_ALL, World, container, record, vm

from kepler_ebpf.ledger.ledger import Retention
from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.model.names import CgroupName, ProcessName

OURS = ("*/kepler_ebpf/ledger/*", "*/kepler_ebpf/model/*")


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
    """Return what the ledger's lines, and those of what it keeps, have allocated since the start.

    What numpy allocates in its own lines is temporary, but it keeps some of that for a while.
    """
    gc.collect()
    mine = [tracemalloc.Filter(inclusive=True, filename_pattern=path) for path in OURS]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(mine).traces)


def least_growth_bytes(step: Callable[[int], None]) -> int:
    """Return by how much 200 steps add to the memory, the least of three times.

    What leaks grows each time; a table that doubles grows once.
    """
    sizes = []
    for number in range(800):
        step(number)
        if number % 200 == 199:
            sizes.append(memory_bytes())
    return min(now - before for before, now in pairwise(sizes))


@pytest.fixture
def _traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
def test_memory_does_not_grow_without_a_reader():
    """A node whose metrics nobody reads keeps what it lists, and nothing of what has passed."""
    world = World(Retention(for_s=120.0, most=20, min_uj=0.0))
    assert least_growth_bytes(lambda number: live(world, number)) < 2_000


@pytest.mark.usefixtures("_traced")
def test_memory_does_not_grow_within_an_interval():
    """Readers that come often in a long interval add to what is there."""
    world = World()
    assert least_growth_bytes(lambda _: world.credit(record())) < 2_000


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


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40), st.sampled_from([53, 62, 63, 64]))
def test_cpu_time_never_falls_however_long_it_adds_up(parts, bits):
    """Near each limit of a number: 104 days on one CPU, and centuries on a thousand."""
    world = World(KEEP_ALL)
    world.interval(*(record(cpu_ns=2**bits // 4) for _ in range(4)))
    before = world.ledger.totals_of(10, 10_000)[1]
    for part in parts:
        cpu_ns = int(part * 1024 * NS_PER_S)
        world.interval(record(cpu_ns=cpu_ns))
        now = world.ledger.totals_of(10, 10_000)[1]
        assert now >= before
        np.testing.assert_allclose(now - before, cpu_ns, atol=2.0 ** (bits - 52))
        before = now
