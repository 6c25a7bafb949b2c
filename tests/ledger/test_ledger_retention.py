"""Ended processes stay listed for a stated time and count, and then their totals are retired."""

import numpy as np
import pytest
from ledger_world import KEEP_ALL, World, by, container, listed, record

from kepler_ebpf.ledger.ledger import Batch, Ledger, Retention
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.workloads import State

RUNNING, TERMINATED = State.RUNNING, State.TERMINATED


def keep(for_s=100.0, most=-1, min_uj=0.0):
    """Return a retention that keeps everything unless told."""
    return Retention(for_s=for_s, most=most, min_uj=min_uj)


def energies(view):
    """Return the package µJ of the listed processes by pid."""
    return {label.pid: uj for label, uj in listed(view).items()}


def test_an_ended_process_is_listed_as_terminated():
    """A process that exits stays, with its totals and another state."""
    world = World()
    world.interval(record(cpu_ns=5))
    world.interval(record(cpu_ns=6, ended=True))
    assert by(world.processes, "pid") == {10: (11.0, 11, TERMINATED)}


def test_a_process_born_and_ended_in_one_interval_is_listed_above_the_threshold():
    """One that lived for less than an interval has its row when it drew enough."""
    world = World(keep(min_uj=100.0))
    world.interval(record(pid=10, ended=True), record(pid=11, ended=True, cpu_ns=99))
    assert by(world.processes, "pid") == {10: (1_000.0, 1_000, TERMINATED)}
    assert world.processes.retired_uj.tolist() == [99.0, 99 / 4]
    assert world.processes.retired_cpu_ns == 99


def test_the_threshold_counts_all_threads_of_a_process():
    """A process is measured as a whole, and has ended if any of its records says so."""
    world = World(keep(min_uj=100.0))
    world.interval(record(cpu_ns=60), record(thread=12, cpu_ns=60, ended=True))
    assert by(world.processes, "pid") == {10: (120.0, 120, TERMINATED)}


def test_a_process_that_ends_below_the_threshold_is_folded():
    """A listed process that exits with too little is listed no longer, its totals are kept."""
    world = World(keep(min_uj=100.0))
    world.interval(record(cpu_ns=5))
    world.interval(record(cpu_ns=6, ended=True))
    assert listed(world.processes) == {}
    assert (world.processes.retired_uj[0], world.processes.retired_cpu_ns) == (11.0, 11)


def test_the_late_slice_of_a_listed_process_is_its_own():
    """What comes for a terminated process after its end is added to its row."""
    world = World()
    world.interval(record(cpu_ns=5, ended=True))
    world.interval(record(cpu_ns=6, ended=True))
    assert by(world.processes, "pid") == {10: (11.0, 11, TERMINATED)}


def test_the_late_slice_of_a_folded_process_is_folded():
    """What comes for a process that is listed no longer is retired with the rest."""
    world = World(keep(min_uj=100.0))
    world.interval(record(cpu_ns=5, ended=True))
    world.interval(record(cpu_ns=6, ended=True))
    assert listed(world.processes) == {}
    assert world.processes.retired_cpu_ns == 11


def test_terminated_processes_leave_after_their_time():
    """A terminated process is retired when the retention time has passed, not before."""
    world = World(keep(for_s=2.0))
    world.interval(record(ended=True))
    world.interval()
    assert energies(world.processes) == {10: 1_000.0}
    world.interval()
    assert energies(world.processes) == {}
    assert world.processes.retired_uj[0] == 1_000.0


def test_only_the_highest_of_the_terminated_stay():
    """Beyond the count the ones with least energy are retired, whenever they ended."""
    world = World(keep(most=2))
    world.interval(record(pid=10, cpu_ns=30, ended=True), record(pid=11, cpu_ns=10, ended=True))
    world.interval(record(pid=12, cpu_ns=20, ended=True))
    assert energies(world.processes) == {10: 30.0, 12: 20.0}
    assert world.processes.retired_uj[0] == 10.0


def test_one_interval_can_end_more_than_may_stay():
    """Of many that came and went in one interval only the highest get rows at all."""
    world = World(keep(most=2))
    world.interval(*(record(pid=pid, cpu_ns=pid, ended=True) for pid in range(10, 20)))
    assert energies(world.processes) == {18: 18.0, 19: 19.0}
    assert world.processes.retired_cpu_ns == sum(range(10, 18))


def test_running_processes_are_not_counted_as_terminated():
    """The count limits the terminated only."""
    world = World(keep(most=1))
    world.interval(*(record(pid=pid) for pid in range(10, 20)))
    assert len(energies(world.processes)) == 10


def test_zero_turns_terminated_workloads_off():
    """With a count of 0 an ended process is gone at once."""
    world = World(keep(most=0))
    world.interval(record(pid=10), record(pid=11, ended=True))
    assert energies(world.processes) == {10: 1_000.0}


def test_a_process_that_is_folded_as_it_ends_is_not_among_those_that_ran():
    """Of the interval's energy the row of the others has what it used."""
    world = World(keep(most=0))
    world.interval(record(pid=10), record(pid=11))
    world.interval(record(pid=10, ended=True), record(pid=11, ended=True))
    view = world.processes
    assert [view.labels[row].comm for row in view.ran_rows] == ["[others]"]
    assert view.ran_uj[:, 0].tolist() == [2_000.0]


def test_a_reused_pid_goes_on_in_the_series_of_its_first_owner():
    """A process whose labels are those of a listed one shares its row, which falls never."""
    world = World(keep(for_s=3.0))
    world.interval(record(start=100, cpu_ns=5))
    world.interval(record(start=100, cpu_ns=1, ended=True), record(start=200, cpu_ns=7))
    for _ in range(4):
        world.interval()
    assert by(world.processes, "start_ns") == {200: (13.0, 13, RUNNING)}
    assert world.ledger.running_processes()[1].tolist() == [200]
    world.interval(record(start=200, ended=True, cpu_ns=1))
    world.interval(record(start=100, ended=True, cpu_ns=1))
    assert by(world.processes, "start_ns") == {200: (15.0, 15, TERMINATED)}


def test_another_program_under_a_reused_pid_is_another_series():
    """It starts at nothing; the first one has ended, and is listed for its time."""
    world = World(keep(for_s=3.0))
    world.interval(
        record(start=100, cpu_ns=5, ended=True),
        record(start=200, cpu_ns=7, process_comm=b"other"),
    )
    assert by(world.processes, "start_ns") == {100: (5.0, 5, TERMINATED), 200: (7.0, 7, RUNNING)}
    for _ in range(4):
        world.interval()
    assert by(world.processes, "start_ns") == {200: (7.0, 7, RUNNING)}
    assert world.processes.retired_cpu_ns == 5


def test_the_end_of_a_pids_first_owner_is_not_the_seconds():
    """Where both lives of a pid were listed, the second one is still known as running."""
    world = World()
    world.interval(record(start=100))
    world.interval(record(start=100, ended=True), record(start=200))
    assert world.ledger.running_processes()[1].tolist() == [200]


@pytest.mark.parametrize("late", [False, True])
def test_a_new_process_ends_the_one_whose_pid_it_has(late):
    """Where the end of a process was lost, the next owner of its pid tells it, however late."""
    world = World()
    first, second = record(start=100), record(start=200, process_comm=b"other")
    world.interval(second if late else first)
    world.interval(first if late else second)
    states = {start: state for start, (_, _, state) in by(world.processes, "start_ns").items()}
    assert states == {100: TERMINATED, 200: RUNNING}


def test_processes_found_gone_are_ended():
    """Whoever looks after the running processes can say which are gone."""
    world = World()
    world.interval(record(pid=10), record(pid=11))
    tgids, starts = world.ledger.running_processes()
    gone = tgids == 11
    world.ledger.ended_processes(tgids[gone], starts[gone])
    world.interval()
    assert by(world.processes, "pid")[11][2] == TERMINATED
    assert world.ledger.running_processes()[0].tolist() == [10]


def test_the_untracked_record_ends_with_its_container():
    """A record without a pid is terminated with its container; one in no container never is."""
    world = World(keep(for_s=3.0))
    world.names.cgroups = {7: CgroupName("/c", container("c"))}
    world.interval(record(pid=0, cgroup_id=7, cpu_ns=5), record(pid=0, cgroup_id=8, cpu_ns=6))
    world.ledger.ended_cgroups([7, 8])
    for _ in range(2):
        world.interval()
    assert by(world.processes, "container_id") == {
        "c": (5.0, 5, TERMINATED),
        "": (6.0, 6, RUNNING),
    }
    for _ in range(4):
        world.interval()
    assert by(world.processes, "container_id") == {"": (6.0, 6, RUNNING)}
    world.interval(record(pid=0, cgroup_id=9, cpu_ns=1))
    assert by(world.processes, "container_id") == {"": (7.0, 7, RUNNING)}


@pytest.mark.parametrize(
    ("kinds", "rank", "still"),
    [
        (("dram", "psys", "package"), 1, ()),
        (("dram", "psys", "package"), 2, ("psys",)),
        (("uncore", "core"), 1, ()),
        (("dram",), 0, ()),
    ],
)
def test_the_primary_zone_ranks(kinds, rank, still):
    """The first of psys, package, core, dram and uncore that has ever moved has the threshold."""
    zones = tuple(Zone(kind, None, f"/{kind}") for kind in kinds)
    ledger = Ledger(zones, World().names, keep(min_uj=50.0))
    shares_uj = np.array([[0.0 if kind in still else 1.0 for kind in kinds]] * 2)
    shares_uj[:, rank] = 49.0, 50.0
    none, active_uj = np.zeros((1, len(kinds))), shares_uj.sum(axis=0, keepdims=True)
    energy = Attribution(kinds, shares_uj, active_uj, none, none)
    records = np.concatenate((record(pid=49, ended=True), record(pid=50, ended=True)))
    ledger.credit(Batch(records, np.array([0, 0]), energy, np.array([0]), 0, 1.0))
    assert set(energies(ledger.views()["process"])) == {50}


def test_keep_all_keeps_all():
    """A negative count and no threshold keep every ended process for the time given."""
    world = World(KEEP_ALL)
    world.interval(*(record(pid=pid, ended=True) for pid in range(10, 80)))
    assert len(energies(world.processes)) == 70
