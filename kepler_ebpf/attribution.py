"""Who used the energy of one interval: pure arithmetic on arrays, no state and no clock.

Each zone is split by the busy share of the sockets it measures, and its active part is shared
over the tasks that ran there in proportion to their CPU time. Time without an owner keeps its
part: it goes to ``unattributed`` and is never spread over the tasks that are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kepler_ebpf.model.arrays import Floats, Records
from kepler_ebpf.model.energy import Attribution, Zone
from kepler_ebpf.model.usage import SocketTime


@dataclass(frozen=True, slots=True)
class _Times:
    """CPU time of one socket, or of those that a zone measures: ns."""

    window_ns: float
    busy_ns: float
    lost_ns: float
    owned_ns: float


@dataclass(frozen=True, slots=True)
class _Split:
    """What becomes of a zone's energy: µJ, and µJ for each ns of its tasks."""

    active_uj: float
    idle_uj: float
    unattributed_uj: float
    uj_per_ns: float


@lru_cache(maxsize=8)
def zone_kinds(zones: tuple[Zone, ...]) -> tuple[str, ...]:
    """Return the kinds of *zones* in order of first appearance: the columns of every share."""
    return tuple(dict.fromkeys(zone.kind for zone in zones))


def attribute(
    tasks: Records, sockets: SocketTime, zones: tuple[Zone, ...], energy_uj: Floats
) -> Attribution:
    """Split *energy_uj* (zones,), what each zone drew in the interval, over *tasks*.

    *tasks* is of dtype ``layout.TASK``. A zone that could not be read is passed as 0: give its
    tasks again, with the energy, once it has been. A socket without any CPU time is idle. Raises
    ValueError for a zone of a socket that *sockets* does not have.
    """
    # Arrays where there are many, tasks; numbers where there are few, sockets and zones: waking
    # numpy for each of those would cost most of a short interval.
    kinds, socket = zone_kinds(zones), tasks["socket"]
    cpu_ns = tasks["cpu_ns"].astype(np.float64)
    times = _times(sockets, np.bincount(socket, cpu_ns, len(sockets.window_ns)).tolist())
    uj_per_ns = np.zeros((len(times), len(kinds)))
    splits = []
    for zone, zone_uj in zip(zones, energy_uj.tolist(), strict=True):
        split = _split(zone_uj, _measured(zone, times))
        rows = slice(None) if zone.socket is None else zone.socket
        uj_per_ns[rows, kinds.index(zone.kind)] += split.uj_per_ns
        splits.append(split)
    return Attribution(
        kinds=kinds,
        shares_uj=cpu_ns[:, np.newaxis] * uj_per_ns[socket],
        active_uj=np.array([split.active_uj for split in splits]),
        idle_uj=np.array([split.idle_uj for split in splits]),
        unattributed_uj=np.array([split.unattributed_uj for split in splits]),
    )


def _times(sockets: SocketTime, owned_ns: list[float]) -> list[_Times]:
    """Return the times of each socket as numbers."""
    columns = (sockets.window_ns.tolist(), sockets.busy_ns.tolist(), sockets.lost_ns.tolist())
    return [_Times(*each) for each in zip(*columns, owned_ns, strict=True)]


def _measured(zone: Zone, times: list[_Times]) -> _Times:
    """Return the times of the sockets that *zone* measures."""
    if zone.socket is None:
        return _Times(
            window_ns=sum(each.window_ns for each in times),
            busy_ns=sum(each.busy_ns for each in times),
            lost_ns=sum(each.lost_ns for each in times),
            owned_ns=sum(each.owned_ns for each in times),
        )
    if not 0 <= zone.socket < len(times):
        raise ValueError(
            f"zone {zone.path} measures socket {zone.socket}, the node has {len(times)}"
        )
    return times[zone.socket]


def _split(zone_uj: float, times: _Times) -> _Split:
    """Split one zone's energy by the busy share of its sockets."""
    ratio = min(times.busy_ns / times.window_ns, 1.0) if times.window_ns > 0 else 0.0
    active_uj = zone_uj * ratio
    # A slice that ended just before the interval may be reported in it: then the tasks have a
    # little more than the busy time, and sharing by busy time would give away too much.
    total_ns = max(times.busy_ns, times.owned_ns + times.lost_ns)
    unowned = (total_ns - times.owned_ns) / total_ns if total_ns > 0 else 1.0
    return _Split(
        active_uj=active_uj,
        idle_uj=zone_uj - active_uj,
        unattributed_uj=active_uj * unowned,
        uj_per_ns=active_uj / total_ns if total_ns > 0 else 0.0,
    )
