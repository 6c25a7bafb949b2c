"""Who used the energy of some intervals: pure arithmetic on arrays, no state and no clock.

Each interval is attributed by itself. A zone is split by the busy share of the sockets it
measures, and its active part is shared over the tasks that ran there in proportion to their CPU
time. Time without an owner keeps its part: it goes to ``unattributed`` and is never spread over
the tasks that are known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Bools, Floats
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Measured

Split = Callable[[Zone, Floats, Floats], Floats]
"""Returns the active part (intervals,) of a zone's energy, of its energy in µJ and of the part of
the time that its CPUs were busy, both (intervals,)."""


def by_busy_time(_: Zone, energy_uj: Floats, busy_part: Floats) -> Floats:
    """Split energy as the CPUs of the zone were busy and idle: the split of all live figures."""
    return energy_uj * busy_part


class _Times(NamedTuple):
    """CPU time in ns, each of shape (intervals,): of the sockets that a zone measures."""

    busy_ns: Floats
    idle_ns: Floats
    lost_ns: Floats
    owned_ns: Floats


@lru_cache(maxsize=8)
def zone_kinds(zones: tuple[Zone, ...]) -> tuple[str, ...]:
    """Return the kinds of *zones* in order of first appearance: the columns of every share."""
    return tuple(dict.fromkeys(zone.kind for zone in zones))


def attribute(
    measured: Measured, zones: tuple[Zone, ...], split: Split = by_busy_time
) -> Attribution:
    """Split the energy of each interval, zone by zone, over the records of that interval.

    *split* decides what part of it is active. A zone's energy that is ``unowned`` has idle and
    active parts, but no owner. A socket without any CPU time is idle. Raises ValueError for a zone
    of a socket that the node does not have.
    """
    intervals, kinds = measured.intervals, zone_kinds(zones)
    energy_uj = np.array([interval.energy_uj for interval in intervals])
    unowned = np.array([interval.unowned for interval in intervals])
    cpu_ns = measured.records["cpu_ns"].astype(np.float64)
    socket = measured.records["socket"]
    times = _times_by_socket(measured, cpu_ns)
    uj_per_ns = np.zeros((*times.shape[1:], len(kinds)))
    active_uj, unattributed_uj = np.zeros_like(energy_uj), np.zeros_like(energy_uj)
    for index, zone in enumerate(zones):
        sockets = _sockets_of(zone, times.shape[2])
        of_zone = _Times(*times[:, :, sockets].sum(axis=2))
        window_ns = of_zone.busy_ns + of_zone.idle_ns
        busy_part = _ratio(of_zone.busy_ns, window_ns)
        active_uj[:, index] = split(zone, energy_uj[:, index], busy_part)
        rate, unowned_part = _rate(active_uj[:, index], of_zone, unowned[:, index])
        uj_per_ns[:, sockets, kinds.index(zone.kind)] += rate[:, np.newaxis]
        unattributed_uj[:, index] = active_uj[:, index] * unowned_part
    return Attribution(
        kinds=kinds,
        shares_uj=cpu_ns[:, np.newaxis] * uj_per_ns[measured.interval_of, socket],
        active_uj=active_uj,
        idle_uj=energy_uj - active_uj,
        unattributed_uj=unattributed_uj,
    )


def residual_ratio(measured: Measured, attribution: Attribution, zones: tuple[Zone, ...]) -> float:
    """Return the largest part of any kind's energy that has no place in *attribution*."""
    columns = np.array([[zone.kind == kind for kind in attribution.kinds] for zone in zones])
    energy_uj = np.array([each.energy_uj for each in measured.intervals])
    placed_uj = (attribution.idle_uj + attribution.unattributed_uj) @ columns
    shares_uj = np.zeros_like(placed_uj)
    np.add.at(shares_uj, measured.interval_of, attribution.shares_uj)
    read_uj = energy_uj @ columns
    gap = np.abs(placed_uj + shares_uj - read_uj) / np.maximum(read_uj, 1.0)
    return float(gap.max(initial=0.0))


def _times_by_socket(measured: Measured, cpu_ns: Floats) -> Floats:
    """Return the times of ``_Times`` by socket, shape (4, intervals, sockets)."""
    known_ns = np.array([interval.usage.sockets for interval in measured.intervals], np.float64)
    intervals, _, sockets = known_ns.shape
    cell = measured.interval_of * sockets + measured.records["socket"]
    owned_ns = np.bincount(cell, cpu_ns, intervals * sockets).reshape(1, intervals, sockets)
    return np.concatenate([known_ns.swapaxes(0, 1), owned_ns])


def _sockets_of(zone: Zone, sockets: int) -> slice:
    if zone.socket is None:
        return slice(sockets)
    if not 0 <= zone.socket < sockets:
        raise ValueError(f"zone {zone.path} measures socket {zone.socket}, the node has {sockets}")
    return slice(zone.socket, zone.socket + 1)


def _rate(active_uj: Floats, times: _Times, unowned: Bools) -> tuple[Floats, Floats]:
    """Return the µJ for each ns of a task, and the part of the energy that has no owner."""
    # A slice that ended just before the interval may be reported in it: then the tasks have a
    # little more than the busy time, and sharing by busy time would give away too much.
    total_ns = np.maximum(times.busy_ns, times.owned_ns + times.lost_ns)
    owned_part = np.where(unowned, 0.0, _ratio(times.owned_ns, total_ns))
    rate = np.divide(active_uj, total_ns, out=np.zeros_like(total_ns), where=total_ns > 0)
    return np.where(unowned, 0.0, rate), 1.0 - owned_part


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return *part* / *whole*, 0 where there is nothing, never above 1."""
    ratio = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.minimum(ratio, 1.0)
