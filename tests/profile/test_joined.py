"""The picture is the account: whatever was sampled, each task keeps what it used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.kernel.layout import TASK
from kepler_ebpf.kernel.samples import HEAD
from kepler_ebpf.profile import joined as module
from kepler_ebpf.profile.frames import UNATTRIBUTED, UNSAMPLED, Sampled
from kepler_ebpf.profile.joined import OTHERS, UNOWNED, Joined, Part
from kepler_ebpf.profile.model import Process

tasks = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(0, 10**9), st.floats(0, 1e9)),
    max_size=8,
)
"""Records: pid, start, cpu_ns and energy."""
samples = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2), st.integers(6, 9)), max_size=20)
"""Pid, start and stack."""


def part_of(rows, *, others=(), unowned_ns=0.0, unowned_uj=(0.0, 0.0), at=0):
    """Return an interval's part of the account; the second kind of zone has double the energy."""
    records = records_of(rows)
    uj = np.array([row[3] for row in rows])
    return Part(
        *(at, at + 1),
        records,
        records_of(others),
        records["cpu_ns"].astype(np.float64),
        np.stack([uj, 2 * uj], axis=1),
        unowned_ns,
        np.array(unowned_uj),
    )


def records_of(rows):
    """Return records of processes of one task each."""
    records = np.zeros(len(rows), TASK)
    for record, (pid, start_ns, cpu_ns, _) in zip(records, rows, strict=True):
        record["pid"] = record["tgid"] = pid
        record["start_ns"] = record["process_start_ns"] = start_ns
        record["cpu_ns"], record["process_comm"] = cpu_ns, f"task-{pid}".encode()
    return records


def sampled_of(rows):
    """Return samples of tasks that are processes of one task."""
    heads = np.zeros(len(rows), HEAD)
    for head, (pid, start_ns, _) in zip(heads, rows, strict=True):
        head["pid"] = head["tgid"] = pid
        head["start_ns"] = head["process_start_ns"] = start_ns
    return Sampled(heads, np.array([stack for _, _, stack in rows], np.int64))


@given(st.lists(st.tuples(tasks, samples), max_size=4))
def test_each_task_keeps_what_it_used(intervals):
    """For each task and interval, time and energy of the rows are those of the account."""
    joined = Joined(2)
    for rows, taken in intervals:
        joined.add(part_of(rows), sampled_of(taken))
    rows = joined.rows
    for interval, (records, taken) in enumerate(intervals):
        for key in {record[:2] for record in records}:
            mine = [record for record in records if record[:2] == key]
            process = joined.processes.index(Process(key[0], key[1], f"task-{key[0]}"))
            chosen = (rows.interval == interval) & (rows.process == process)
            cpu_ns, uj = (sum(record[column] for record in mine) for column in (2, 3))
            assert rows.cpu_ns[chosen].sum() == pytest.approx(cpu_ns, rel=1e-12)
            assert rows.energy_uj[chosen].sum(axis=0) == pytest.approx([uj, 2 * uj], rel=1e-12)
            stacks = [stack for *other, stack in taken if tuple(other) == key]
            assert rows.samples[chosen].sum() == len(stacks)
            assert set(rows.stack[chosen].tolist()) == (set(stacks) or {UNSAMPLED})
    known = [{record[:2] for record in records} for records, _ in intervals]
    taken = zip(known, (taken for _, taken in intervals), strict=True)
    assert joined.unmatched == sum((s[0], s[1]) not in keys for keys, some in taken for s in some)


def test_task_is_shared_over_its_own_samples():
    """A stack has the part of the task's time that it has of the task's samples."""
    joined = Joined(2)
    rows = [(1, 1, 1000, 8.0), (2, 1, 500, 1.0)]
    joined.add(part_of(rows), sampled_of([(1, 1, 6), (1, 1, 6), (1, 1, 6), (1, 1, 7), (2, 1, 6)]))
    stacks = {
        (tid, stack): (count, cpu_ns)
        for tid, stack, count, cpu_ns in zip(
            *(joined.rows.tid, joined.rows.stack, joined.rows.samples, joined.rows.cpu_ns),
            strict=True,
        )
    }
    assert stacks == {(1, 6): (3, 750.0), (1, 7): (1, 250.0), (2, 6): (1, 500.0)}


def test_samples_of_others_are_left_out():
    """A task that is not profiled has no row, and its samples are not missing."""
    joined = Joined(2)
    part = part_of([(1, 1, 1000, 8.0)], others=[(2, 1, 500, 1.0)])
    joined.add(part, sampled_of([(1, 1, 6), (2, 1, 6), (3, 1, 6)]))
    assert joined.rows.tid.tolist() == [1]
    assert joined.unmatched == 1


def test_energy_without_an_owner_is_a_row_of_its_own():
    """What no task can be charged for has a process and a stack that say so."""
    joined = Joined(2)
    joined.add(part_of([], unowned_ns=5.0, unowned_uj=(3.0, 6.0)), sampled_of([]))
    (process,), (stack,) = joined.rows.process, joined.rows.stack
    assert (joined.processes[process], stack) == (UNOWNED, UNATTRIBUTED)
    assert joined.rows.energy_uj.tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65])
def test_many_rows_keep_sums_and_bounds(monkeypatch, count):
    """Intervals are joined by twos where rows would be too many; time and energy stay."""
    monkeypatch.setattr(module, "MAX_ROWS", 16)
    joined = Joined(2)
    for number in range(count):
        part = part_of([(1, 1, 10, 1.0), (2, 1, 10, 2.0)], at=number)
        joined.add(part, sampled_of([(1, 1, 6), (2, 1, 7)]))
    starts, ends = joined.bounds
    assert len(joined.rows.interval) <= 16
    assert (starts[0], ends[-1]) == (0, count)
    assert starts[1:].tolist() == ends[:-1].tolist()
    assert joined.rows.cpu_ns.sum() == 20 * count
    assert joined.rows.samples.sum() == 2 * count
    assert joined.rows.energy_uj.sum(axis=0).tolist() == [3.0 * count, 6.0 * count]


def test_many_processes_are_bounded(monkeypatch):
    """Processes beyond the limit are one, whose time and energy stay."""
    monkeypatch.setattr(module, "MAX_PROCESSES", 4)
    joined = Joined(2)
    joined.add(part_of([(pid, 1, 10, 1.0) for pid in range(1, 9)]), sampled_of([]))
    assert len(joined.processes) == 4
    others = joined.rows.process == joined.processes.index(OTHERS)
    assert joined.rows.cpu_ns[others].sum() == 60
    assert joined.rows.cpu_ns.sum() == 80


def test_process_has_the_last_of_its_names():
    """After an exec a process is known by its new name."""
    joined = Joined(2)
    for name in (b"sh", b"worker"):
        part = part_of([(1, 1, 10, 1.0)])
        part.records["process_comm"] = name
        joined.add(part, sampled_of([]))
    assert joined.processes[2:] == [Process(1, 1, "worker")]
