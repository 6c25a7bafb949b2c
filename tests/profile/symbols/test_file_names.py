"""Functions get the names that their files have for them."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from code_files import (
    SOURCE,
    build_id_of,
    compiled,
    functions_of,
    named,
    objcopy,
    offsets_of,
    output_of,
)

from kepler_ebpf.profile.model import Origin
from kepler_ebpf.profile.symbols.code_file import open_code
from kepler_ebpf.profile.symbols.debug_info import MAX_UNPACKED_BYTES
from kepler_ebpf.profile.symbols.names import UNKNOWN, Names

LIBC = next(Path("/usr/lib").glob("*/libc.so.6"))
GO = Path(shutil.which("kustomize") or "/absent/go")
NODE = Path(shutil.which("node") or "/absent/node").resolve()
PYTHON = Path(sys.executable).resolve()
FILES = {LIBC: ["-D"], GO: [], PYTHON: ["-D"], NODE: []}
MOST = 1_500


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_names_are_those_of_nm(path: Path) -> None:
    """Each place inside a function of a real file has one of the names that nm has for it."""
    functions = functions_of(path, *FILES[path])
    starts = np.array(sorted(functions))
    ends = starts + np.array([functions[start][0] for start in starts.tolist()])
    places = ((starts + ends) // 2)[:: max(1, len(starts) // MOST)]
    wrong = []
    names = names_in(path, offsets_of(path, places.tolist()))
    for place, name in zip(places.tolist(), names, strict=True):
        around = starts[(starts <= place) & (place < ends)].tolist()
        if not any(name in functions[start][1] for start in around):
            wrong.append((hex(place), name, functions[around[0]]))
    assert wrong == []


@pytest.mark.parametrize("flags", [("-pie", "-fPIE"), ("-no-pie", "-fno-pie"), ("-static",)])
def test_executables_of_each_kind(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Position-independent, fixed and static files alike."""
    path = compiled(tmp_path, *flags)
    functions = functions_of(path)
    starts = {name: start for start, (_, names) in functions.items() for name in names}
    wanted = ["hot", "hidden_helper", "main"]
    frames = named(path, offsets_of(path, [starts[name] + 1 for name in wanted]))
    assert [frame.name for frame in frames] == wanted


def test_32_bits(tmp_path: Path) -> None:
    """A file of 32 bits."""
    source = "int inner(int x) { return x * 3; } void _start(void) { for (;;) inner(2); }"
    path = compiled(tmp_path, "-m32", "-nostdlib", "-fno-pic", "-no-pie", source=source)
    starts = {name: start for start, (_, names) in functions_of(path).items() for name in names}
    frames = named(path, offsets_of(path, [starts["inner"] + 1, starts["_start"]]))
    assert [frame.name for frame in frames] == ["inner", "_start"]


def test_code_without_a_size_reaches_to_the_next(tmp_path: Path) -> None:
    """Hand-written functions have no size in the table."""
    path = compiled(tmp_path)
    begin = symbol(path, "by_hand")
    assert [frame.name for frame in named(path, offsets_of(path, [begin, begin + 3]))] == [
        "by_hand",
        "by_hand",
    ]


def symbol(path: Path, name: str) -> int:
    """Return the address of a symbol, whatever its size."""
    lines = output_of("nm", path).splitlines()
    return next(int(line.split()[0], 16) for line in lines if line.split()[-1] == name)


def test_beyond_the_end_of_a_function_is_nothing(tmp_path: Path) -> None:
    """A gap between functions is not named by its neighbour."""
    path = compiled(tmp_path)
    start = symbol(path, "hot")
    size = functions_of(path)[start][0]
    objcopy("--strip-unneeded", "--keep-symbol=hot", path)
    frames = named(path, offsets_of(path, [start + size - 1, start + size]))
    assert [frame.name for frame in frames] == ["hot", "[known]"]


def test_a_stripped_file_is_named_and_noted(tmp_path: Path) -> None:
    """What has no name is its file, and a note has the remedy."""
    path = compiled(tmp_path)
    place = offsets_of(path, [symbol(path, "hot")])
    objcopy("--strip-all", path)
    names = Names()
    (frame,) = named(path, place, names)
    assert frame == ("[known]", str(path), Origin.USER)
    (note,) = [note for note in names.notes() if "known (1)" in note]
    assert "install the debug symbols" in note


def test_a_separate_file_by_build_id(tmp_path: Path) -> None:
    """Debug files lie by build id, as distributions install them."""
    path = compiled(tmp_path)
    place = offsets_of(path, [symbol(path, "hidden_helper")])
    build_id = build_id_of(path)
    debug = tmp_path / "debug/.build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    debug.parent.mkdir(parents=True)
    objcopy("--only-keep-debug", path, debug)
    objcopy("--strip-all", path)
    (frame,) = named(path, place, Names(debug_directory=str(tmp_path / "debug")))
    assert frame.name == "hidden_helper"


@pytest.mark.parametrize("build_id", ["sha1", "none"])
def test_a_separate_file_by_its_link(tmp_path: Path, build_id: str) -> None:
    """A link is followed, to a file with the right build id, or the right checksum."""
    path = compiled(tmp_path, f"-Wl,--build-id={build_id}")
    place = offsets_of(path, [symbol(path, "hidden_helper")])
    (tmp_path / ".debug").mkdir()
    debug = tmp_path / ".debug/known.debug"
    objcopy("--only-keep-debug", path, debug)
    objcopy("--strip-all", f"--add-gnu-debuglink={debug}", path)
    assert names_in(path, place) == ["hidden_helper"]
    other = compiled(tmp_path, f"-Wl,--build-id={build_id}", "-DX", "-O0", name="other")
    objcopy("--only-keep-debug", other, debug)
    assert names_in(path, place) == [""]


def names_in(path: Path, offsets: list[int], debug_directory: str = "/nowhere") -> list[str]:
    """Return the names at *offsets* of a file that has no build id."""
    file = open_code(str(path))
    assert file
    return file.names(np.array(offsets, np.int64), debug_directory)


def test_mini_debug_info(tmp_path: Path) -> None:
    """Functions that are not exported, packed into the stripped file."""
    path = compiled(tmp_path, "-rdynamic")
    places = offsets_of(path, [symbol(path, "hidden_helper"), symbol(path, "hot")])
    mini = tmp_path / "mini"
    objcopy("-S", "--remove-section", ".comment", "--keep-symbol=hidden_helper", path, mini)
    output_of("xz", mini)
    objcopy("--strip-all", f"--add-section=.gnu_debugdata={mini}.xz", path)
    assert [frame.name for frame in named(path, places)] == ["hidden_helper", "hot"]


def test_a_stripped_go_program(tmp_path: Path) -> None:
    """Go's runtime has a table of its own, which stays."""
    functions = {
        start: {name.removesuffix(".abi0") for name in names}
        for start, (_, names) in functions_of(GO).items()
        if any(re.match(r"(main|runtime|sort|encoding/json)\.", name) for name in names)
    }
    stripped = tmp_path / "stripped"
    objcopy("--strip-all", GO, stripped)
    found = names_in(stripped, offsets_of(GO, [*functions]))
    wrong = [
        (name, names)
        for name, names in zip(found, functions.values(), strict=True)
        if name not in names
    ]
    assert wrong == []
    assert len(found) > 1_000


def test_a_stripped_program_of_go_and_c() -> None:
    """Those of distributions call C: their code does not begin where Go's does."""
    runc = Path(shutil.which("runc") or "/absent/runc")
    begin, size = code_of(runc)
    assert "symtab" not in output_of("readelf", "-SW", runc)
    found = names_in(runc, list(range(begin, begin + size, 64)))
    assert len({name for name in found if name.startswith("main.")}) > 10
    assert found[0] == ""


def code_of(path: Path) -> tuple[int, int]:
    """Return offset and size of a file's section of code."""
    pattern = r" \.text +PROGBITS +\w+ (\w+) (\w+)"
    found = re.search(pattern, output_of("readelf", "-SW", path))
    assert found
    return int(found[1], 16), int(found[2], 16)


def test_what_grows_too_large_is_not_unpacked(tmp_path: Path) -> None:
    """A small packed file may hold gigabytes."""
    path = compiled(tmp_path)
    place = offsets_of(path, [symbol(path, "hot")])
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as file:
        file.truncate(2 * MAX_UNPACKED_BYTES)
    output_of("xz", "-0", bomb)
    objcopy("--strip-all", f"--add-section=.gnu_debugdata={bomb}.xz", path)
    assert [frame.name for frame in named(path, place)] == ["[known]"]


def test_many_tables_of_the_same_symbols(tmp_path: Path) -> None:
    """A file that lists its one table a thousand times takes no more memory."""
    path = compiled(tmp_path)
    once = loaded(path)
    raw = bytearray(path.read_bytes())
    count, size = int.from_bytes(raw[60:62], "little"), 64
    begin = int.from_bytes(raw[40:48], "little")
    headers = [raw[at : at + size] for at in range(begin, begin + count * size, size)]
    tables = [each for each in headers if each[4] in {2, 11}] * 500
    raw[40:48] = len(raw).to_bytes(8, "little")
    raw[60:62] = (count + len(tables)).to_bytes(2, "little")
    path.write_bytes(raw + b"".join([*headers, *tables]))
    assert loaded(path) == once


def loaded(path: Path) -> tuple[list[str], int]:
    """Return the name at a place of a file, and the memory that its tables take."""
    file = open_code(str(path))
    assert file
    place = np.array(offsets_of(path, [symbol(path, "hot")]))
    return file.names(place, "/absent"), file.nbytes


def test_an_unknown_build_id(tmp_path: Path) -> None:
    """A file that was never seen has no name, and is counted."""
    names = Names(debug_directory=str(tmp_path))
    frames = names.of_build_ids(np.array([b"\1" * 20], "S20"), np.array([16]))
    assert frames == [UNKNOWN]
    assert any(note.endswith(": 1.") for note in names.notes())


def test_the_same_file_twice_in_one_call(tmp_path: Path) -> None:
    """Frames come in the order of their places, repeated where those are."""
    path = compiled(tmp_path)
    hot, main = offsets_of(path, [symbol(path, "hot"), symbol(path, "main")])
    frames = named(path, [main, hot, main, hot + 1])
    assert [frame.name for frame in frames] == ["main", "hot", "main", "hot"]


def test_what_is_no_elf_file(tmp_path: Path) -> None:
    """A script, a directory, a FIFO and what is absent are no files with names."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "script").write_text("#!/bin/sh\n" + SOURCE)
    names = Names()
    for name in ("fifo", "script", "absent", ".", "a\0b"):
        names.learn_file(str(tmp_path / name))
    assert names.of_build_ids(np.array([b"\2" * 20], "S20"), np.array([1])) == [UNKNOWN]
    assert names.faults.count == 0
