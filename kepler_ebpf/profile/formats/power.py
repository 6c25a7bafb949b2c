"""Energy over time: a track for each process."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Floats, Ints
from kepler_ebpf.profile.formats.merged import added
from kepler_ebpf.profile.model import Process, Profile

MAX_TRACKS = 200
"""Nobody looks at more. The processes that used least are one track."""


class Track(NamedTuple):
    """The intervals in which a process, or several, ran, in order, and the energy of each."""

    process: Process
    interval: Ints
    energy_uj: Floats


def tracked(profile: Profile, kind: str) -> tuple[tuple[Process, ...], Ints]:
    """Return the processes that have a track, by energy, and the index into them of each row."""
    energy_uj = profile.rows.energy_uj[:, profile.kinds.index(kind)]
    count = len(profile.processes)
    order = np.argsort(-added(profile.rows.process, energy_uj, count), kind="stable")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    processes = [profile.processes[index] for index in order[:MAX_TRACKS]]
    if count > MAX_TRACKS:
        processes.append(Process(0, 0, f"{count - MAX_TRACKS} other processes"))
    return tuple(processes), np.minimum(place, MAX_TRACKS)[profile.rows.process]


def tracks(profile: Profile, kind: str) -> list[Track]:
    """Return the tracks, the one with the most energy first."""
    processes, owner = tracked(profile, kind)
    intervals = max(1, len(profile.start_ns))
    keys, group = np.unique(owner * intervals + profile.rows.interval, return_inverse=True)
    energy_uj = added(group, profile.rows.energy_uj[:, profile.kinds.index(kind)], len(keys))
    bounds = np.searchsorted(keys, np.arange(len(processes) + 1) * intervals)
    return [
        Track(process, keys[low:high] % intervals, energy_uj[low:high])
        for process, low, high in zip(processes, bounds, bounds[1:], strict=False)
    ]
