"""Recordings whose checksums are right, and which no recorder has written: anybody can make one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from recordings import HEADER, batches_of, measured_at, write

from kepler_ebpf.cli import main
from kepler_ebpf.errors import SetupError
from kepler_ebpf.model.bounds import MAX_LABEL_BYTES
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Interval, Measured
from kepler_ebpf.recording import frames
from kepler_ebpf.recording.encode import Encoder
from kepler_ebpf.recording.frames import Frames, State
from kepler_ebpf.recording.reader import NOT_WHOLE, open_recording
from kepler_ebpf.recording.schema import COLUMNS, FORMAT_KEY, HEADER_KEY, MAX_ZONES, Header, Mark


def judged(path: Path) -> tuple[State, int]:
    """Return how a recording ends, and how many batches it has."""
    recording = open_recording(path)
    count = sum(1 for _ in recording.batches())
    return recording.state, count


def with_first(**fields: Any) -> Measured:
    """Return a batch whose first interval has other figures."""
    batch = measured_at(Random(3), 5, 5)  # noqa: S311  no secret
    names = set(Interval._fields)
    usage = {name: value for name, value in fields.items() if name not in names}
    first = batch.intervals[0]
    changed = first._replace(
        usage=first.usage._replace(**usage),
        **{name: value for name, value in fields.items() if name in names},
    )
    return replace(batch, intervals=(changed, *batch.intervals[1:]))


def on_socket(number: int) -> Measured:
    """Return a batch in which a task ran on a socket."""
    batch = with_first()
    batch.records["socket"][0] = number
    return batch


@pytest.mark.parametrize(
    "batch",
    [
        on_socket(2),
        on_socket(2**31),
        with_first(energy_uj=(1.0,)),
        with_first(energy_uj=(1.0, float("nan"), 1.0)),
        with_first(energy_uj=(1.0, 1e300, 1.0)),
        with_first(end_ns=0),
        with_first(end_ns=2**62),
    ],
    ids=["socket", "far", "zones", "nan", "energy", "before", "endless"],
)
def test_figures_of_no_host(tmp_path: Path, batch: Measured) -> None:
    """They are damage: what was before them is read, and every verb says so and no more."""
    path = tmp_path / "r.arrows"
    write(path, [*batches_of(1, 1), batch])
    assert judged(path) == (State.DAMAGED, 1)
    for verb in (["replay"], ["report"], ["report", "--format", "html"]):
        assert CliRunner().invoke(main, [*verb, str(path)]).exit_code == NOT_WHOLE


@pytest.mark.parametrize("socket", [7, -1])
def test_zone_of_no_socket(tmp_path: Path, socket: int) -> None:
    """Its energy would be nobody's."""
    zones = tuple(replace(zone, socket=socket) for zone in HEADER.zones)
    write(tmp_path / "r", batches_of(1, 1), header=replace(HEADER, zones=zones, sockets=8))
    assert judged(tmp_path / "r") == (State.DAMAGED, 0)


class Forged(Header):
    """A header with columns and metadata of one's own."""

    def schema(self) -> Any:
        """Return the columns without the last, and with numbers for kinds of rows."""
        columns = [("row", pa.int64()), *COLUMNS[1:-1]]
        return pa.schema(columns, metadata=super().schema().metadata)


def forged(path: Path, made: Frames, change: Callable[[Any], Any]) -> None:
    """Write a recording of one batch that was changed."""
    begin = made.group(None, Mark())
    batch = change(Encoder(HEADER.schema()).batch(batches_of(1, 1)[0], [9.0] * 5, {}))
    last = made.group(batch, Mark(is_complete=True))
    path.write_bytes(begin + last + made.end())


def test_other_columns(tmp_path: Path) -> None:
    """A stream with our header and columns of others has nothing to read."""
    fields = {name: getattr(HEADER, name) for name in Header.__dataclass_fields__}
    made = Frames(Forged(**fields))
    forged(tmp_path / "r", made, lambda _: pa.RecordBatch.from_pylist([{"row": 1}], made.schema))
    assert judged(tmp_path / "r") == (State.DAMAGED, 0)


@pytest.mark.parametrize("column", ["row", "comm", "cgroup_id"])
def test_indexes_beyond_their_dictionary(tmp_path: Path, column: str) -> None:
    """They would be read from memory of others."""

    def changed(batch: Any) -> Any:
        at = batch.schema.get_field_index(column)
        type_ = batch.schema.field(at).type
        indexes = pa.array([100] * batch.num_rows, type_.index_type)
        dictionary = batch.column(at).dictionary
        wrong = pa.DictionaryArray.from_arrays(indexes, dictionary, safe=False)
        return batch.set_column(at, batch.schema.field(at), wrong)

    forged(tmp_path / "r", Frames(HEADER), changed)
    assert judged(tmp_path / "r") == (State.DAMAGED, 0)


def test_what_grows_too_large_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes may claim gigabytes."""
    path = tmp_path / "r.arrows"
    long = {"cgroup": {7: {"path": "x" * (1 << 22)}}}
    write(path, batches_of(1, 2), {1: long})
    assert path.stat().st_size < 1 << 17
    assert judged(path) == (State.COMPLETE, 2)
    monkeypatch.setattr(frames, "MAX_DECODED_BYTES", 1 << 21)
    assert judged(path) == (State.DAMAGED, 1)


class Titled(Header):
    """A header of one's own text."""

    text = "{}"

    def schema(self) -> Any:
        """Return our columns with this header."""
        return pa.schema(COLUMNS, metadata={FORMAT_KEY: "1", HEADER_KEY: self.text})


@pytest.mark.parametrize("text", ["{}", "[]", "1", "nonsense", '{"zones": [1]}', "[" * 10_000])
def test_header_of_others(tmp_path: Path, text: str) -> None:
    """It is an error that names the file."""
    fields = {name: getattr(HEADER, name) for name in Header.__dataclass_fields__}
    header = Titled(**fields)
    object.__setattr__(header, "text", text)
    (tmp_path / "r").write_bytes(Frames(header).group(None, Mark()))
    with pytest.raises(SetupError, match="/r has a header"):
        open_recording(tmp_path / "r")


@pytest.mark.parametrize(
    "fields",
    [
        {"zones": ()},
        {"zones": ({"kind": "package", "socket": "0", "path": "p"},)},
        {"began_s": 1e300},
        {"meter": 7},
        {"zones": tuple(Zone(str(number), 0, "p") for number in range(MAX_ZONES + 1))},
    ],
    ids=["none", "socket", "time", "type", "zones"],
)
def test_header_of_no_host(tmp_path: Path, fields: dict[str, Any]) -> None:
    """It is an error that names the file."""
    write(tmp_path / "r", batches_of(1, 1), header=replace(HEADER, **fields))
    with pytest.raises(SetupError, match="/r has a header"):
        open_recording(tmp_path / "r")


def test_a_part_that_is_a_fifo(tmp_path: Path) -> None:
    """It is an error, and nobody waits for who might write to it."""
    os.mkfifo(tmp_path / "r-0001.arrows")
    with pytest.raises(SetupError, match="Not a regular file"):
        open_recording(tmp_path)


def test_names_that_a_terminal_would_obey(tmp_path: Path) -> None:
    """Nothing of them gets there, whoever has chosen them: a process, or who made the file."""
    batches = batches_of(1, 2)
    for batch in batches:
        batch.records["comm"] = batch.records["process_comm"] = b"\x1b[2Jx"
    write(tmp_path / "r", batches, header=replace(HEADER, node="\x1b[2J", meter="\x1b[2J"))
    for verb in ("replay", "report"):
        for by in ("process", "comm"):
            shown = CliRunner().invoke(main, [verb, "--by", by, str(tmp_path / "r")], color=True)
            assert shown.exit_code == 0
            assert "[2Jx" in shown.output
            assert "\x1b" not in shown.output


def test_texts_of_a_header_are_bounded(tmp_path: Path) -> None:
    """They are in the heading of each report, and in its picture."""
    write(tmp_path / "r", batches_of(1, 1), header=replace(HEADER, node="n" * 100_000))
    assert len(open_recording(tmp_path / "r").header.node) == MAX_LABEL_BYTES


def test_error_is_no_text_for_a_terminal(tmp_path: Path) -> None:
    """Whoever makes a file chooses its name and its format."""
    path = tmp_path / "r\x1b[2J-0001.arrows"
    schema = pa.schema(COLUMNS, metadata={FORMAT_KEY: "\x1b]0;x\x07" + "9" * 100_000})
    with pa.ipc.new_stream(path, schema):
        pass
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code > 0
    assert all(line.isprintable() for line in done.output.split("\n"))
    assert "has format" in done.output
    assert len(done.output) < 1_000
