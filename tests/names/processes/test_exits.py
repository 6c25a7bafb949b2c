"""Processes that ended unseen are found, a few at a time, and never by mistake."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kepler_ebpf.names.processes import exits
from kepler_ebpf.names.processes.exits import ExitChecker
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks

NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def identity(pid):
    """Return pid and a start within the process's clock tick."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat.rpartition(")")[2].split()[19])
    assert is_alive(pid, start_ticks(ticks * NS_PER_TICK))
    return pid, ticks * NS_PER_TICK


def listed(*processes):
    """Return what lists *processes*, (pid, start) each, as the ledger does."""
    pids = np.array([pid for pid, _ in processes], np.uint32)
    starts = np.array([start for _, start in processes], np.uint64)
    return lambda: (pids, starts)


@pytest.fixture
def child():
    """Start a process that sleeps, and end it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def found_gone(ours, *processes, rounds=1):
    """Return the pids found gone in so many looks."""
    checker = ExitChecker("/proc", ours)
    return [pid for _ in range(rounds) for pid in checker.gone(listed(*processes))[0].tolist()]


def test_a_process_that_is_gone_is_found(child):
    """An ended process is reported, a living one is not."""
    ours, dead = identity(os.getpid()), identity(child.pid)
    child.kill()
    child.wait()
    assert found_gone(ours, ours, dead) == [dead[0]]


def test_a_pid_of_another_process_is_gone(child):
    """A process whose pid has another start by now is gone."""
    ours, (pid, start_ns) = identity(os.getpid()), identity(child.pid)
    assert found_gone(ours, (pid, start_ns - 10 * NS_PER_TICK)) == [pid]


def test_nobody_is_gone_in_a_foreign_procfs(child, tmp_path):
    """Where procfs does not show this process, it says nothing of others either."""
    ours, dead = identity(os.getpid()), identity(child.pid)
    checker = ExitChecker(str(tmp_path), ours)
    checker.resync()
    assert len(checker.gone(listed(ours, dead))[0]) == 0
    assert not checker.has_checks


def test_nobody_is_gone_with_a_procfs_that_vanishes(child, tmp_path):
    """Processes that live are not taken for gone while procfs is unmounted, and found later."""
    ours, dead = identity(os.getpid()), identity(child.pid)
    procfs = tmp_path / "proc"
    procfs.symlink_to("/proc")
    checker = ExitChecker(str(procfs), ours)
    checker.resync()
    child.kill()
    child.wait()
    procfs.unlink()
    assert len(checker.gone(listed(ours, dead))[0]) == 0
    procfs.symlink_to("/proc")
    assert checker.gone(listed(ours, dead))[0].tolist() == [dead[0]]


def test_every_process_gets_its_turn():
    """A few at a time, all of them are looked at in the end."""
    ours = identity(os.getpid())
    dead = [(4_000_000 + number, 1) for number in range(3 * exits.MAX_LOOKS)]
    assert sorted(found_gone(ours, *dead, rounds=3)) == [pid for pid, _ in dead]


def test_a_round_ends_when_all_were_looked_at():
    """A resync begins a round, which is over after the last process."""
    dead = [(4_000_000 + number, 1) for number in range(2 * exits.MAX_LOOKS)]
    checker = ExitChecker("/proc", identity(os.getpid()))
    before = checker.has_checks
    checker.resync()
    rounds = []
    while checker.has_checks:
        rounds.append(len(checker.gone(listed(*dead))[0]))
    assert not before
    assert rounds == [exits.MAX_LOOKS, exits.MAX_LOOKS]


def test_all_are_looked_at_in_a_hurry():
    """Where ends are known to be lost, a call looks at all processes that there is time for."""
    ours = identity(os.getpid())
    dead = [(4_000_000 + number, 1) for number in range(3 * exits.MAX_LOOKS)]
    checker = ExitChecker("/proc", ours)
    checker.resync(hurry=True)
    assert checker.hurries
    assert len(checker.gone(listed(*dead), budget_s=0.0)[0]) == exits.MAX_LOOKS
    assert len(checker.gone(listed(*dead), budget_s=60.0)[0]) == 2 * exits.MAX_LOOKS
    assert not checker.hurries


def test_nobody_hurries_where_ends_may_have_been_seen():
    """Without a lost end a call looks at a few processes, however much time there is."""
    dead = [(4_000_000 + number, 1) for number in range(2 * exits.MAX_LOOKS)]
    checker = ExitChecker("/proc", identity(os.getpid()))
    checker.resync()
    assert not checker.hurries
    assert len(checker.gone(listed(*dead), budget_s=60.0)[0]) == exits.MAX_LOOKS


def test_a_resync_within_a_round_looks_at_all_again():
    """Those that the running round has passed are looked at once more, however often it comes."""
    dead = [(4_000_000 + number, 1) for number in range(2 * exits.MAX_LOOKS)]
    checker, found = ExitChecker("/proc", identity(os.getpid())), []
    for _ in range(2):
        checker.resync()
        found += checker.gone(listed(*dead))[0].tolist()
    while checker.has_checks:
        found += checker.gone(listed(*dead))[0].tolist()
    assert min(found.count(pid) for pid, _ in dead[: exits.MAX_LOOKS]) == 2
    assert {pid for pid, _ in dead} == set(found)
