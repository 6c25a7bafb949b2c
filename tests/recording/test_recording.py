"""What a recording has, is read; what it lacks or has too much, is told."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import HEADER, batches_of, damaged, measured_at, same, write

from kepler_ebpf.attribution import attribute
from kepler_ebpf.errors import SetupError
from kepler_ebpf.model.names import CgroupName, ProcessName
from kepler_ebpf.model.workloads import ContainerLabels, PodLabels, UnitLabels, VmLabels
from kepler_ebpf.recording import encode
from kepler_ebpf.recording.encode import NamedRows
from kepler_ebpf.recording.frames import State
from kepler_ebpf.recording.names import (
    cgroup_of_texts,
    process_of_texts,
    texts_of_cgroup,
    texts_of_pod,
    texts_of_process,
)
from kepler_ebpf.recording.reader import NOT_WHOLE, open_recording

DAMAGES = 300


def read(path):
    """Return a recording that was read, and its batches."""
    recording = open_recording(path)
    return recording, list(recording.batches())


# --- what is written is read ------------------------------------------------------------------


@given(seed=st.integers(0, 1 << 30), sizes=st.lists(st.integers(0, 6), max_size=4))
def test_measured_intervals_come_back(tmp_path_factory, seed, sizes):
    """Every record and interval, whatever their number, in the batch they were in."""
    path = tmp_path_factory.mktemp("recording") / "r.arrows"
    rng = Random(seed)  # noqa: S311  no secret
    first, batches = 0, []
    for size in sizes:
        batches.append(measured_at(rng, first, size))
        first += size
    write(path, batches)
    recording, found = read(path)
    wanted = [each for each in batches if each.intervals]
    assert len(found) == len(wanted)
    assert all(same(one, batch.measured) for one, batch in zip(wanted, found, strict=True))
    assert (recording.header, recording.state, recording.problems) == (HEADER, State.COMPLETE, [])
    assert recording.exit_status == 0


def test_attribution_is_the_live_one(tmp_path):
    """To the last digit but for the order of sums."""
    batches = batches_of(1, 20)
    write(tmp_path / "r.arrows", batches)
    _, found = read(tmp_path / "r.arrows")
    for live, batch in zip(batches, found, strict=True):
        one, other = (attribute(each, HEADER.zones) for each in (live, batch.measured))
        for name in ("active_uj", "idle_uj", "unattributed_uj"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)
        sums = (each.shares_uj.sum(axis=0) for each in (one, other))
        assert next(sums) == pytest.approx(next(sums), rel=1e-9)


def test_when_an_interval_ended_is_known(tmp_path):
    """In Unix time."""
    write(tmp_path / "r.arrows", batches_of(1, 2))
    _, (first, _) = read(tmp_path / "r.arrows")
    ends_ns = [interval.usage.end_ns for interval in first.measured.intervals]
    assert first.ends_s.tolist() == [HEADER.at_s(end_ns) for end_ns in ends_ns]


def test_marks_have_the_counts(tmp_path):
    """Of what was recorded so far."""
    batches = batches_of(1, 3)
    write(tmp_path / "r.arrows", batches)
    recording, found = read(tmp_path / "r.arrows")
    rows = sum(len(each.records) for each in batches)
    assert found[-1].mark.rows == recording.endings[0].mark.rows == rows


CONTAINER = ContainerLabels("c1", "web", "docker", "p1")
CGROUPS = (
    CgroupName("/a", owner="/"),
    CgroupName("/b", CONTAINER, "p1", (("unit", UnitLabels("x.service", "systemd")),), "/"),
)


@pytest.mark.parametrize("name", CGROUPS)
def test_name_of_a_cgroup_is_kept(name):
    """With its container, its pod and its unit."""
    assert cgroup_of_texts(texts_of_cgroup(name)) == name


@pytest.mark.parametrize(
    "name", [ProcessName("/bin/x"), ProcessName("", VmLabels("v", "n", "kvm"))]
)
def test_name_of_a_process_is_kept(name):
    """With the VM that it runs."""
    assert process_of_texts(texts_of_process(name)) == name


def test_later_names_are_better(tmp_path):
    """A reader has the last that was known."""
    early = {"cgroup": {7: texts_of_cgroup(CGROUPS[0])}}
    late: NamedRows = {
        "cgroup": {7: texts_of_cgroup(CGROUPS[1])},
        "process": {(4, 9): texts_of_process(ProcessName("/bin/x"), "x --flag")},
        "pod": {"key": texts_of_pod(PodLabels("p1", "pod", "space"))},
    }
    write(tmp_path / "r.arrows", batches_of(1, 3), {0: early, 2: late})
    recording, _ = read(tmp_path / "r.arrows")
    names = recording.names
    assert names.cgroups == {7: CGROUPS[1]}
    assert names.processes == {(4, 9): ProcessName("/bin/x")}
    assert names.arguments == {(4, 9): "x --flag"}
    assert names.pods == {"key": PodLabels("p1", "pod", "space")}


def test_name_of_any_bytes_is_written(tmp_path):
    """What is no text in it is replaced."""
    write(tmp_path / "r.arrows", batches_of(1, 1), {0: {"cgroup": {7: {"path": "/a\udcff"}}}})
    recording, _ = read(tmp_path / "r.arrows")
    assert recording.names.cgroups[7].path == "/a?"


def test_forked_process_has_the_program_of_its_parent(tmp_path):
    """Of the one that had that pid when it started."""
    made = {(4, start): texts_of_process(ProcessName(f"/bin/{start}")) for start in (10, 20, 30)}
    write(tmp_path / "r.arrows", batches_of(1, 1), {0: {"process": made}})
    recording, _ = read(tmp_path / "r.arrows")
    assert recording.names.process(5, 25, parent_tgid=4).exe == "/bin/20"
    assert recording.names.process(5, 5, parent_tgid=4).exe == ""


def test_dictionaries_are_bounded(tmp_path, monkeypatch):
    """However many names strangers make up: all come back, and no dictionary has all."""
    monkeypatch.setattr(encode, "MAX_ENTRIES", 50)
    batches = batches_of(1, 30)
    for number, batch in enumerate(batches):
        comms = [b"%d" % (1000 * number + row) for row in range(len(batch.records))]
        batch.records["comm"] = comms
    write(tmp_path / "r.arrows", batches)
    recording, found = read(tmp_path / "r.arrows")
    assert all(same(one, two.measured) for one, two in zip(batches, found, strict=True))
    assert recording.state is State.COMPLETE


def test_any_reader_of_arrow_reads_it(tmp_path):
    """As one table of all rows, without the checks."""
    batches = batches_of(1, 4)
    write(tmp_path / "r.arrows", batches)
    table = pa.ipc.open_stream((tmp_path / "r.arrows").read_bytes()).read_all()
    kinds = table.column("row").to_pylist()
    assert kinds.count("task") == sum(len(each.records) for each in batches)
    assert kinds.count("interval") == 20
    used_ns = sum(int(each.records["cpu_ns"].sum()) for each in batches)
    assert sum(filter(None, table.column("cpu_ns").to_pylist())) == used_ns


# --- damage -----------------------------------------------------------------------------------


def test_damage_is_told_and_what_is_whole_is_read(tmp_path):
    """Nothing damaged is called whole, and every batch that is read is one that was written."""
    batches = batches_of(2, 12)
    path = tmp_path / "r.arrows"
    write(path, batches)
    raw, calls = path.read_bytes(), 0
    for name, damage in damaged(3, raw, DAMAGES):
        if damage == raw:
            continue
        calls += 1
        path.write_bytes(damage)
        with suppress(SetupError):
            recording, found = read(path)
            assert recording.state in {State.CUT, State.DAMAGED}, name
            assert recording.problems
            assert recording.exit_status == NOT_WHOLE
            assert len(found) <= len(batches)
            pairs = zip(batches, found, strict=False)
            assert all(same(one, batch.measured) for one, batch in pairs), name
            (ending,) = recording.endings
            assert raw.startswith(damage[: ending.whole_bytes])
    assert calls > DAMAGES / 2


def test_cut_costs_no_whole_batch(tmp_path):
    """Wherever a file ends, all batches before are read."""
    path = tmp_path / "r.arrows"
    parts = [write(tmp_path / f"{n}.arrows", batches_of(2, n), ends=False) for n in range(6)]
    write(path, batches_of(2, 6))
    raw = path.read_bytes()
    for count, part in enumerate(parts):
        for end in (part.size_bytes, part.size_bytes + 1, part.size_bytes + 100):
            path.write_bytes(raw[:end])
            recording, found = read(path)
            assert (len(found), recording.state) == (count, State.CUT)


def test_file_without_its_header_is_an_error(tmp_path):
    """It names the file: nothing of it can be read."""
    path = tmp_path / "r.arrows"
    write(path, batches_of(2, 1))
    raw = path.read_bytes()
    for damage in (raw[:500], raw[:300] + b"x" + raw[301:], raw[:200] + bytes(2000)):
        path.write_bytes(damage)
        with pytest.raises(SetupError, match=r"r\.arrows"):
            open_recording(path)


def test_file_of_others_is_an_error(tmp_path):
    """A text, nothing at all, and a stream that is not ours."""
    other = pa.table({"x": [1]})
    with (
        pa.OSFile(str(tmp_path / "other"), "wb") as file,
        pa.ipc.new_stream(file, other.schema) as w,
    ):
        w.write_table(other)
    (tmp_path / "text").write_text("hello " * 1000)
    (tmp_path / "empty").touch()
    for name, problem in (("other", "no recording"), ("text", "no recording"), ("empty", "empty")):
        with pytest.raises(SetupError, match=problem):
            open_recording(tmp_path / name)
    with pytest.raises(SetupError, match="no recording"):
        open_recording(tmp_path)


def test_newer_format_is_an_error(tmp_path, monkeypatch):
    """It says what to do."""
    with monkeypatch.context() as patch:
        patch.setattr("kepler_ebpf.recording.schema.FORMAT", 9)
        write(tmp_path / "r.arrows", batches_of(2, 1))
    with pytest.raises(SetupError, match="format 9") as error:
        open_recording(tmp_path / "r.arrows")
    assert "not older" in error.value.remedy


# --- files that are written, and parts ----------------------------------------------------------


def test_file_that_is_being_written_is_read_as_such(tmp_path):
    """Even where its last batch is there in part; once its writer is gone it is cut."""
    path = tmp_path / "r.arrows"
    part = write(path, batches_of(2, 3), ends=False)
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10")
    recording, found = read(path)
    assert (len(found), recording.state, recording.problems) == (3, State.WRITING, [])
    assert recording.exit_status == 0
    os.close(part._file)  # noqa: SLF001 - as its death does
    recording, found = read(path)
    assert (len(found), recording.state) == (3, State.CUT)


def parts_of(folder, recording, count):
    """Write a recording of some parts, and return its batches."""
    batches = batches_of(4, count)
    for number, batch in enumerate(batches, 1):
        header = replace(HEADER, recording=recording, part=number)
        write(folder / f"{recording}-{number:04}.arrows", [batch], header=header)
    return batches


def test_parts_are_one_recording(tmp_path):
    """The newest of a directory, or one that is named."""
    old, new = parts_of(tmp_path, "20261125T000000Z", 2), parts_of(tmp_path, "20261126T000000Z", 3)
    for path, batches in ((tmp_path, new), (tmp_path / "20261125T000000Z", old)):
        recording, found = read(path)
        assert all(same(one, two.measured) for one, two in zip(batches, found, strict=True))
        assert recording.state is State.COMPLETE
    assert len(read(tmp_path / "20261125T000000Z-0002.arrows")[1]) == 1


def test_missing_part_is_told(tmp_path):
    """One between others; the oldest ones are removed on purpose."""
    parts_of(tmp_path, "r", 4)
    (tmp_path / "r-0001.arrows").unlink()
    recording, found = read(tmp_path)
    assert (len(found), recording.state) == (3, State.COMPLETE)
    (tmp_path / "r-0003.arrows").unlink()
    recording, found = read(tmp_path)
    assert (len(found), recording.state) == (2, State.CUT)
    assert recording.problems == ["part 3 is missing"]


def test_names_of_strangers_in_the_directory(tmp_path):
    """Numbers of parts may be huge or no numbers to Python, and names no text for a terminal."""
    parts_of(tmp_path, "r", 1)
    whole = (tmp_path / "r-0001.arrows").read_bytes()
    (tmp_path / f"r-{10**100}.arrows").write_bytes(whole)
    (tmp_path / "r-²\x1b[2J\n.arrows").write_bytes(whole[:-20])
    (tmp_path / "r-².arrows").write_bytes(whole)
    recording, found = read(tmp_path)
    assert (len(found), recording.state) == (4, State.CUT)
    cut, missing = recording.problems
    assert "has no end" in cut
    assert cut.isprintable()
    assert missing == f"parts 2 to {10**100 - 1} are missing"


def test_part_of_another_recording_is_not_read_as_ours(tmp_path):
    """Its energy would be that of zones of another host."""
    parts_of(tmp_path, "r", 2)
    zones = (*HEADER.zones[:2], replace(HEADER.zones[2], kind="core"))
    (tmp_path / "r-0002.arrows").unlink()
    write(tmp_path / "r-0002.arrows", batches_of(1, 1), header=replace(HEADER, zones=zones))
    recording, found = read(tmp_path)
    assert (len(found), recording.state) == (1, State.DAMAGED)
    assert "another recording" in recording.problems[0]


def test_part_that_is_cut_does_not_hide_the_next(tmp_path):
    """What is whole of all parts is read."""
    parts_of(tmp_path, "r", 3)
    with (tmp_path / "r-0002.arrows").open("r+b") as file:
        file.truncate(100)
    recording, found = read(tmp_path)
    assert (len(found), recording.state) == (2, State.CUT)


def test_without_pyarrow_the_extra_is_named(checkout):
    """An error of one line, and no traceback."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from kepler_ebpf.cli import main; main(['replay', 'x'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == SetupError.exit_code
    assert "pip install 'kepler-ebpf[record]'" in done.stderr
    assert "Traceback" not in done.stderr
