"""What a process has used, from its first record to its end."""

import numpy as np
import pytest

from kepler_ebpf.kernel.layout import FLAG_ENDED, TASK
from kepler_ebpf.stat import lives as module
from kepler_ebpf.stat.lives import Lives

NOTHING = np.zeros(0, TASK), np.zeros((0, 1)), (), ()


def records(*rows):
    """Return records of (tgid, process start, cpu_ns, flags), with a microjoule for each ns."""
    made = np.zeros(len(rows), TASK)
    for name, column in zip(
        ("tgid", "process_start_ns", "cpu_ns", "flags"), zip(*rows, strict=True), strict=True
    ):
        made[name] = column
    made["process_comm"] = b"sh"
    return made, made["cpu_ns"].astype(float)[:, np.newaxis]


def followed(is_alive=lambda _: True):
    """Follow processes with one kind of zone."""
    return Lives(np.zeros(1), is_alive)


def test_last_slice_after_the_end_counts():
    """An end is known one interval later, with what the process used up to then."""
    lives = followed()
    assert lives.add(*records((7, 10, 5, 0), (7, 10, 6, FLAG_ENDED)), (), (), 100) == []
    (event,) = lives.add(*records((7, 10, 4, 0)), (), (), 200)
    assert (event.kind, event.life.cpu_ns, event.life.energy_uj.tolist()) == ("end", 15, [15.0])
    assert lives.add(*NOTHING, 300) == []


def test_cgroup_is_that_of_the_end():
    """Records have no order: that of the end decides where a process was last."""
    made, shares_uj = records((7, 10, 5, FLAG_ENDED), (7, 10, 6, 0))
    made["cgroup_id"] = 1, 2
    lives = followed()
    lives.add(made, shares_uj, (), (), 100)
    (event,) = lives.add(*NOTHING, 200)
    assert event.life.cgroup_id == 1


def test_pid_that_is_used_again_is_another_process():
    """A process is a pid with its start."""
    lives = followed()
    lives.add(*records((7, 10, 5, FLAG_ENDED), (7, 20, 6, 0)), (), (), 100)
    (first,) = lives.add(*NOTHING[:3], [(7, 20)], 200)
    (second,) = lives.add(*NOTHING, 300)
    assert (first.life.cpu_ns, second.life.cpu_ns) == (5, 6)


def test_processes_that_are_followed_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Beyond the limit they are counted; those whose end was lost make room."""
    monkeypatch.setattr(module, "MAX_LIVES", 3)
    gone = {(1, 1), (3, 3)}
    lives = followed(lambda key: key not in gone)
    lives.add(*records(*((pid, pid, 1, 0) for pid in range(1, 6))), (), (), 100)
    assert lives.without_room == 2
    events = lives.add(*NOTHING, 200)
    assert [(event.kind, event.life.key) for event in events] == [
        ("end", key) for key in sorted(gone)
    ]
    lives.add(*records((8, 8, 1, FLAG_ENDED)), (), (), 300)
    (event,) = lives.add(*NOTHING, 400)
    assert event.life.key == (8, 8)
