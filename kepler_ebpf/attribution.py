"""Who used the energy of one interval: pure arithmetic on arrays, no state and no clock.

Each zone is split by the busy share of the sockets it measures, and its active part is shared
over the tasks that ran there in proportion to their CPU time. Time without an owner keeps its
part: it goes to ``unattributed`` and is never spread over the tasks that are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kepler_ebpf.model import Attribution, Floats, Ints, Records, SocketTime, Zone


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the zones of a node cover, as matrices of ones and zeros.

    ``covers`` (zones, sockets): the zone measures the socket. ``of_kind`` (zones, kinds): the
    zone is of the kind.
    """

    kinds: tuple[str, ...]
    covers: Floats
    of_kind: Floats


def zone_kinds(zones: tuple[Zone, ...]) -> tuple[str, ...]:
    """Return the kinds of *zones* in order of first appearance: the columns of every share."""
    return tuple(dict.fromkeys(zone.kind for zone in zones))


def kind_matrix(zones: tuple[Zone, ...]) -> Floats:
    """Return a matrix (zones, kinds) with a one where a zone is of a kind."""
    kinds = zone_kinds(zones)
    return np.array([[float(zone.kind == kind) for kind in kinds] for zone in zones])


def attribute(
    tasks: Records, sockets: SocketTime, zones: tuple[Zone, ...], energy_uj: Floats
) -> Attribution:
    """Split *energy_uj* (zones,), what each zone drew in the interval, over *tasks*.

    *tasks* is of dtype ``layout.TASK``. A zone that could not be read is passed as 0: give its
    tasks again, with the energy, once it has been. A socket without any CPU time is idle. Raises
    ValueError for a zone of a socket that *sockets* does not have.
    """
    layout = _layout(zones, len(sockets.window_ns))
    cpu_ns = tasks["cpu_ns"].astype(np.float64)
    owned_ns = layout.covers @ _by_socket(tasks["socket"], cpu_ns, sockets)
    busy_ns = layout.covers @ sockets.busy_ns
    active_uj = energy_uj * _ratio(busy_ns, layout.covers @ sockets.window_ns)
    # A slice that ended just before the interval may be reported in it: then the tasks have a
    # little more than the busy time, and sharing by busy time would give away too much.
    total_ns = np.maximum(busy_ns, owned_ns + layout.covers @ sockets.lost_ns)
    uj_per_ns = _divide(active_uj, total_ns)
    uj_per_socket_ns = (layout.covers.T * uj_per_ns) @ layout.of_kind
    return Attribution(
        kinds=layout.kinds,
        shares_uj=cpu_ns[:, np.newaxis] * uj_per_socket_ns[tasks["socket"]],
        active_uj=active_uj,
        idle_uj=energy_uj - active_uj,
        unattributed_uj=active_uj * _divide(total_ns - owned_ns, total_ns, otherwise=1.0),
    )


@lru_cache(maxsize=8)
def _layout(zones: tuple[Zone, ...], sockets: int) -> _Layout:
    """Return the matrices of *zones* on a node with that many *sockets*."""
    covers = np.zeros((len(zones), sockets))
    for row, zone in enumerate(zones):
        if zone.socket is not None and not 0 <= zone.socket < sockets:
            message = f"zone {zone.path} measures socket {zone.socket}, the node has {sockets}"
            raise ValueError(message)
        covers[row, slice(None) if zone.socket is None else zone.socket] = 1.0
    return _Layout(zone_kinds(zones), covers, kind_matrix(zones))


def _by_socket(socket: Ints, cpu_ns: Floats, sockets: SocketTime) -> Floats:
    """Sum *cpu_ns* of the tasks by socket: (sockets,)."""
    summed: Floats = np.bincount(socket, cpu_ns, len(sockets.window_ns)).astype(np.float64)
    return summed


def _ratio(busy_ns: Floats, window_ns: Floats) -> Floats:
    """Return the share of the window that was busy, 0 where there was no window."""
    return np.minimum(_divide(busy_ns, window_ns), 1.0)


def _divide(part: Floats, whole: Floats, otherwise: float = 0.0) -> Floats:
    """Return part / whole, and *otherwise* where the whole is zero."""
    ratio: Floats = np.divide(part, whole, out=np.full(len(whole), otherwise), where=whole > 0)
    return ratio
