"""Who used the energy of some intervals: pure arithmetic on arrays, no state and no clock.

Each interval is attributed by itself. A zone is split by the busy share of the sockets it
measures, and its active part is shared over the tasks that ran there in proportion to their CPU
time. Time without an owner keeps its part: it goes to ``unattributed`` and is never spread over
the tasks that are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kepler_ebpf.model.arrays import Bools, Floats
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Measured


@dataclass(frozen=True, slots=True)
class _Times:
    """CPU time in ns, each of shape (intervals, sockets), or (intervals,) of a zone's sockets."""

    window_ns: Floats
    busy_ns: Floats
    lost_ns: Floats
    owned_ns: Floats

    def of(self, zone: Zone) -> _Times:
        """Return the times of the sockets that *zone* measures."""
        arrays = (self.window_ns, self.busy_ns, self.lost_ns, self.owned_ns)
        sockets = self.window_ns.shape[1]
        if zone.socket is None:
            return _Times(*(array.sum(axis=1) for array in arrays))
        if not 0 <= zone.socket < sockets:
            raise ValueError(
                f"zone {zone.path} measures socket {zone.socket}, the node has {sockets}"
            )
        return _Times(*(array[:, zone.socket] for array in arrays))


@lru_cache(maxsize=8)
def zone_kinds(zones: tuple[Zone, ...]) -> tuple[str, ...]:
    """Return the kinds of *zones* in order of first appearance: the columns of every share."""
    return tuple(dict.fromkeys(zone.kind for zone in zones))


def attribute(measured: Measured, zones: tuple[Zone, ...]) -> Attribution:
    """Split the energy of each interval, zone by zone, over the records of that interval.

    A zone's energy that is ``unowned`` has idle and active parts, but no owner. A socket without
    any CPU time is idle. Raises ValueError for a zone of a socket that the node does not have.
    """
    intervals, kinds = measured.intervals, zone_kinds(zones)
    energy_uj = np.array([each.energy_uj for each in intervals]).reshape(-1, len(zones))
    unowned = np.array([each.unowned for each in intervals]).reshape(-1, len(zones))
    cpu_ns = measured.records["cpu_ns"].astype(np.float64)
    socket = measured.records["socket"]
    times = _times(measured, cpu_ns)
    uj_per_ns = np.zeros((*times.window_ns.shape, len(kinds)))
    active_uj, unattributed_uj = np.zeros_like(energy_uj), np.zeros_like(energy_uj)
    for index, zone in enumerate(zones):
        of_zone = times.of(zone)
        active_uj[:, index] = energy_uj[:, index] * _ratio(of_zone.busy_ns, of_zone.window_ns)
        rate, unowned_part = _rate(active_uj[:, index], of_zone, unowned[:, index])
        sockets = slice(None) if zone.socket is None else slice(zone.socket, zone.socket + 1)
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


def _times(measured: Measured, cpu_ns: Floats) -> _Times:
    """Return the CPU time of each interval and socket."""
    sockets = [each.usage.sockets for each in measured.intervals]
    busy_ns = np.array([each.busy_ns for each in sockets], np.float64)
    idle_ns = np.array([each.idle_ns for each in sockets], np.float64)
    lost_ns = np.array([each.lost_ns for each in sockets], np.float64)
    cell = measured.interval_of * busy_ns.shape[1] + measured.records["socket"]
    owned_ns = np.zeros_like(busy_ns)
    owned_ns.ravel()[:] = np.bincount(cell, cpu_ns, busy_ns.size)
    return _Times(busy_ns + idle_ns, busy_ns, lost_ns, owned_ns)


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
