"""A trace for the UI of Perfetto: the power of each process as a counter track.

Numbers of fields are those of Perfetto's protos. The clock is the monotonic one, and a snapshot
says what time it was.
"""

from __future__ import annotations

from collections.abc import Iterator

from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.profile.formats.caption import title
from kepler_ebpf.profile.formats.power import Track, tracks
from kepler_ebpf.profile.formats.protobuf import double, integer, message, text
from kepler_ebpf.profile.model import Process, Profile

REALTIME, MONOTONIC = 1, 3
COUNTER = 4
SEQUENCE = integer(10, 1)
FIRST_UUID = 0x6B65706C65720000
"""Tracks of another file that is opened with this one do not have the same numbers."""

W_PER_UJ_NS = 1e3


def write(profile: Profile, kind: str) -> bytes:
    """Return the trace. A value is the power from its time on; where a process ends it is 0."""
    packets = [_clocks(profile), _track(FIRST_UUID, text(2, title(profile, kind)))]
    for number, track in enumerate(tracks(profile, kind), 1):
        owner, counter = FIRST_UUID + 2 * number, FIRST_UUID + 2 * number + 1
        packets.append(_track(owner, *_owner(track.process)))
        packets.append(_track(counter, integer(5, owner), *_counter(profile, kind)))
        packets += _values(profile, track, counter)
    return b"".join(message(1, packet, SEQUENCE) for packet in packets)


def _clocks(profile: Profile) -> bytes:
    """Return the packet that joins the clocks at the start."""
    start_ns = int(profile.start_ns[0]) if len(profile.start_ns) else 0
    times = ((REALTIME, int(profile.began_at_s * NS_PER_S)), (MONOTONIC, start_ns))
    clocks = [message(1, integer(1, clock), integer(2, time_ns)) for clock, time_ns in times]
    cleared = integer(13, 1)
    return cleared + message(6, *clocks, integer(2, MONOTONIC))


def _track(uuid: int, *fields: bytes) -> bytes:
    return message(60, integer(1, uuid), *fields)


def _owner(process: Process) -> Iterator[bytes]:
    """Return the fields of a process; what stands for several is a track with a name."""
    if process.pid:
        yield message(3, integer(1, process.pid), text(6, process.comm))
    else:
        yield text(2, process.comm)


def _counter(profile: Profile, kind: str) -> tuple[bytes, bytes]:
    name = f"{kind} power{' (ESTIMATE)' if profile.is_estimate else ''}"
    return text(2, name), message(8, text(6, "W"), text(7, "power"))


def _values(profile: Profile, track: Track, uuid: int) -> Iterator[bytes]:
    """Return a value at the start of each interval, and 0 where the next one is missing."""
    end_ns = None
    for index, uj in zip(track.interval.tolist(), track.energy_uj.tolist(), strict=True):
        start_ns = int(profile.start_ns[index])
        if end_ns is not None and end_ns < start_ns:
            yield _value(end_ns, uuid, 0.0)
        end_ns = int(profile.end_ns[index])
        yield _value(start_ns, uuid, uj * W_PER_UJ_NS / max(1, end_ns - start_ns))
    if end_ns is not None:
        yield _value(end_ns, uuid, 0.0)


def _value(at_ns: int, uuid: int, watts: float) -> bytes:
    event = message(11, integer(9, COUNTER), integer(11, uuid), double(44, watts))
    return integer(8, at_ns) + integer(58, MONOTONIC) + event
