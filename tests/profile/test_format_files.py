"""What stands in the files, held against what their readers expect."""

import gzip
import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from profiles import BEGAN_AT_S, NS_PER_S, Row, large_profile, profile_of, profiles

from kepler_ebpf.profile.formats.registry import FORMATS, format_of, render
from kepler_ebpf.profile.formats.tree import MAX_FRAMES, tree
from kepler_ebpf.profile.model import Frame, Origin, Process, Profile

MAKE, CC1 = Process(10, 1, "make"), Process(11, 2, "cc1")
MAIN, PARSE = Frame("main", "/usr/bin/cc1"), Frame("parse<int, char>", "/usr/bin/cc1")
FAULT = Frame("asm_exc_page_fault", "[kernel]", Origin.KERNEL)
UNSAMPLED = Frame("[unsampled]", "", Origin.NONE)

FIREFOX_TABLES = (
    *("samples", "markers", "stackTable", "frameTable"),
    *("funcTable", "resourceTable", "nativeSymbols"),
)
MARKUP = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;'


def small_profile(**other) -> Profile:
    """Return two processes over three seconds, the second of which pauses for one."""
    return profile_of(
        [
            Row(MAKE, (UNSAMPLED,), (1e6, 1e5), interval=0, samples=0),
            Row(CC1, (MAIN, PARSE), (2e6, 2e5), interval=0),
            Row(CC1, (MAIN, PARSE, FAULT), (3e6, 3e5), interval=2),
        ],
        intervals=3,
        **other,
    )


def firefox(profile: Profile) -> Any:
    """Return the document for the Firefox Profiler."""
    return json.loads(gzip.decompress(render("firefox", profile, "package")))


def packets(profile: Profile) -> list[Any]:
    """Return the packets of the Perfetto trace. Perfetto's own protos know every field."""
    trace = Trace()
    trace.ParseFromString(render("perfetto", profile, "package"))
    size = trace.ByteSize()
    trace.DiscardUnknownFields()
    assert trace.ByteSize() == size
    return list(trace.packet)


@pytest.mark.parametrize("name", FORMATS)
@given(profile=profiles())
def test_any_profile_can_be_written(name: str, profile: Profile) -> None:
    """Empty stacks, pid 0, control characters, lone surrogates: each is written."""
    assert render(name, profile, "dram") == render(name, profile, "dram")


def test_endings_are_of_one_format() -> None:
    """A file's name says what to write, and no name says two things."""
    for name, each in FORMATS.items():
        for ending in each.endings:
            assert format_of(f"out/x.y{ending}") == name
    assert format_of("out/profile.xyz") is None


def test_folded_line() -> None:
    """A line is program, frames with the marks of the kernel, and whole microjoules."""
    odd = Row(MAKE, (Frame("a;b\nc\0"),), (7.4, 0.0))
    lines = render("folded", profile_of([odd]), "package").decode().splitlines()
    assert lines == ["make;a:b c\N{REPLACEMENT CHARACTER} 7"]
    lines = render("folded", small_profile(), "package").decode().splitlines()
    assert lines[0] == "cc1;main;parse<int, char>;asm_exc_page_fault_[k] 3000000"


def test_perfetto_tracks() -> None:
    """A process has a track of its power: from an interval's start on, and 0 when it pauses."""
    found = packets(small_profile())
    owner = next(
        p.track_descriptor
        for p in found
        if p.track_descriptor.process.pid == CC1.pid and p.track_descriptor.process.process_name
    )
    counter = next(
        p.track_descriptor for p in found if p.track_descriptor.parent_uuid == owner.uuid
    )
    assert (owner.process.process_name, counter.counter.unit_name) == ("cc1", "W")
    values = [
        (p.timestamp // NS_PER_S, p.track_event.double_counter_value)
        for p in found
        if p.track_event.track_uuid == counter.uuid
    ]
    assert values == [(7, 2.0), (8, 0.0), (9, 3.0), (10, 0.0)]


def test_perfetto_clock() -> None:
    """The clock of the values is joined to the time of day, and every packet has a sequence."""
    found = packets(small_profile())
    clocks = {clock.clock_id: clock.timestamp for clock in found[0].clock_snapshot.clocks}
    assert clocks == {1: int(BEGAN_AT_S * NS_PER_S), 3: 7 * NS_PER_S}
    assert all(packet.trusted_packet_sequence_id for packet in found)


def test_firefox_structure() -> None:
    """Version 48: each table has columns of its length, and an index of a table is in it."""
    document = firefox(small_profile())
    assert document["meta"]["preprocessedProfileVersion"] == 48
    assert "grey" in {category["color"] for category in document["meta"]["categories"]}
    for thread in document["threads"]:
        assert isinstance(thread["pid"], str)
        tables = {name: thread[name] for name in FIREFOX_TABLES}
        for table in tables.values():
            columns = [column for column in table.values() if isinstance(column, list)]
            assert {len(column) for column in columns} == {table["length"]}
        for name, column, other in (
            ("samples", "stack", "stackTable"),
            ("stackTable", "frame", "frameTable"),
            ("frameTable", "func", "funcTable"),
        ):
            assert all(0 <= index < tables[other]["length"] for index in tables[name][column])
        prefixes = tables["stackTable"]["prefix"]
        assert all(prefix is None or prefix < at for at, prefix in enumerate(prefixes))


def test_firefox_power_track() -> None:
    """A counter of category power is a process's: pWh since the time before, the first one 0."""
    document = firefox(small_profile())
    counter = next(each for each in document["counters"] if each["pid"] == str(CC1.pid))
    assert counter["category"] == "power"
    assert document["threads"][counter["mainThreadIndex"]]["pid"] == counter["pid"]
    samples = counter["samples"]
    assert samples["time"] == [0.0, 1000.0, 2000.0, 3000.0]
    joules = [count * 3.6e-9 for count in samples["count"]]
    assert joules == pytest.approx([0.0, 2.0, 0.0, 3.0])


def test_firefox_main_thread() -> None:
    """The leader of a process is its main thread, also where its number is not the lowest."""
    rows = [Row(CC1, (MAIN,), (1e6, 0.0), tid=tid) for tid in (5, CC1.pid, 12)]
    threads = firefox(profile_of(rows))["threads"]
    assert [(each["tid"], each["isMainThread"]) for each in threads] == [
        (CC1.pid, True),
        (5, False),
        (12, False),
    ]


def test_firefox_cpu_time() -> None:
    """The call tree is CPU milliseconds, and the samples lie within their interval."""
    document = firefox(small_profile())
    thread = next(each for each in document["threads"] if each["name"] == "cc1")
    samples = thread["samples"]
    assert (samples["weightType"], samples["weight"]) == ("tracing-ms", [10.0, 10.0])
    assert samples["time"] == [1000.0, 3000.0]


@given(profile=profiles())
def test_svg_is_well_formed(profile: Profile) -> None:
    """A parser of XML reads it, whatever words and names there are."""
    assert ET.fromstring(render("svg", profile, "package")).tag.endswith("svg")  # noqa: S314


def test_svg_is_a_picture() -> None:
    """Names are text, and there is neither a script nor a link."""
    profile = profile_of([Row(MAKE, (Frame(MARKUP, MARKUP),), (1e6, 0.0))], subject=MARKUP)
    root = ET.fromstring(render("svg", profile, "package"))  # noqa: S314
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "style", "text", "g", "rect"}
    assert any(MARKUP in (element.text or "") for element in root.iter())


@pytest.mark.parametrize("name", ["html", "svg", "speedscope", "firefox", "pprof", "perfetto"])
def test_an_estimate_is_named(name: str) -> None:
    """A file of a meter that models has the word in it."""
    data = render(name, small_profile(is_estimate=True, meter="estimate"), "package")
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    assert b"ESTIMATE" in data


def test_the_tree_is_bounded() -> None:
    """What is drawn does not grow with the number of stacks, and says how much is not drawn."""
    drawn = tree(large_profile(stacks=12_000), "package")
    assert len(drawn.frame) < 2 * MAX_FRAMES
    assert drawn.pruned > 0
    rest = drawn.frames.index(Frame("[too small to show]", "", Origin.NONE))
    assert rest in drawn.frame
