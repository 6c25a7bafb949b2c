"""Every file adds up to the profile: to the microjoule where the format has whole numbers."""

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import given
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from profiles import KINDS, Row, profile_of, profiles

from kepler_ebpf.profile.formats.merged import whole
from kepler_ebpf.profile.formats.power import MAX_TRACKS
from kepler_ebpf.profile.formats.registry import render
from kepler_ebpf.profile.formats.tree import tree
from kepler_ebpf.profile.model import Frame, Process, Profile

PWH_PER_UJ = 1e3 / 3.6
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>')


def total_uj(profile: Profile, kind: str = "package") -> float:
    """Return the sum that a file has to show."""
    return float(profile.rows.energy_uj[:, KINDS.index(kind)].sum())


def total_of(name: str, profile: Profile) -> Any:
    """Return the package energy in a file, in microjoules."""
    data = render(name, profile, "package")
    match name:
        case "folded":
            return sum(int(line.rpartition(" ")[2]) for line in data.decode().split("\n")[:-1])
        case "speedscope":
            return round(sum(json.loads(data)["profiles"][0]["weights"]) * 1000)
        case "html":
            found = DATA.search(data.decode())
            assert found
            return json.loads(found[1])["values"][0][0]
        case "firefox":
            counters = json.loads(gzip.decompress(data))["counters"]
            return sum(sum(counter["samples"]["count"]) for counter in counters) / PWH_PER_UJ
        case _:
            return joules_of_trace(data) * 1e6


def joules_of_trace(data: bytes) -> float:
    """Return the integral of all counters of a Perfetto trace: a value holds until the next."""
    last: dict[int, tuple[int, float]] = {}
    joules = 0.0
    trace = Trace()
    trace.ParseFromString(data)
    for packet in trace.packet:
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        before_ns, watts = last.get(event.track_uuid, (packet.timestamp, 0.0))
        assert packet.timestamp >= before_ns
        joules += watts * (packet.timestamp - before_ns) / 1e9
        last[event.track_uuid] = (packet.timestamp, event.double_counter_value)
    assert all(watts == 0 for _, watts in last.values()), "a track draws for ever"
    return joules


@pytest.mark.parametrize("name", ["folded", "speedscope", "html"])
@given(profile=profiles())
def test_whole_microjoules_add_up(name: str, profile: Profile) -> None:
    """No microjoule is lost or made by rounding, whatever names and amounts there are."""
    assert total_of(name, profile) == round(total_uj(profile))


@pytest.mark.parametrize("name", ["firefox", "perfetto"])
@given(profile=profiles())
def test_power_over_time_adds_up(name: str, profile: Profile) -> None:
    """The tracks of power are the energy of the profile."""
    assert total_of(name, profile) == pytest.approx(total_uj(profile), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("name", ["firefox", "perfetto"])
def test_many_processes_are_one_track(name: str) -> None:
    """A storm of processes does not become a storm of tracks, and its energy stays."""
    rows = [
        Row(Process(pid, 1, "cc1"), (Frame("main"),), (float(pid), 0.0))
        for pid in range(1, 2 * MAX_TRACKS)
    ]
    profile = profile_of(rows)
    assert total_of(name, profile) == pytest.approx(total_uj(profile), rel=1e-9)
    data = render(name, profile, "package")
    assert f"{MAX_TRACKS - 1} other processes".encode() in (
        gzip.decompress(data) if name == "firefox" else data
    )


@given(profile=profiles())
def test_rounding_keeps_the_sum(profile: Profile) -> None:
    """Whole numbers are at most one away from what they stand for, and their sum is right."""
    values = profile.rows.energy_uj[:, 0]
    rounded = whole(values)
    assert rounded.sum() == round(float(values.sum()))
    assert (abs(rounded - values) < 1 + 1e-6).all()


@given(profile=profiles())
def test_frames_hold_what_they_called(profile: Profile) -> None:
    """In the tree a caller has at least what its callees have, of every value."""
    drawn = tree(profile, "package")
    open_nodes: list[int] = []
    below = [0.0] * len(drawn.depth)
    for node, depth in enumerate(drawn.depth.tolist()):
        del open_nodes[depth:]
        if open_nodes:
            below[open_nodes[-1]] += drawn.values[node, 0]
        open_nodes.append(node)
    assert (drawn.values[:, 0] >= below).all()
