"""The parts of an ELF file that names are found by: segments, sections, build id, symbols.

Whatever is malformed or beyond the bounds below is a ``MalformedError``: the file has no names.
Files are read piece by piece and never mapped, as their owner may cut them meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from kepler_ebpf.model.arrays import Ints, Records
from kepler_ebpf.profile.symbols.ranges import Addresses

ReadAt = Callable[[int, int], bytes]
"""Returns bytes of a file or of memory: so many (or fewer, at the end) from an offset."""

MAX_SEGMENTS = 1_024
MAX_SECTIONS = 65_536
MAX_NOTE_BYTES = 65_536
MAX_SYMBOLS = 3_000_000
MAX_BUILD_ID_BYTES = 20
"""Longer ones the kernel does not read."""

SYMTAB, DYNSYM = 2, 11
_SYMBOLS_AT_ONCE = 65_536
_LOAD, _NOTE, _EXECUTABLE, _NOBITS, _BUILD_ID = 1, 4, 1, 8, 3
_NOTYPE, _FUNCTION, _IFUNC = 0, 2, 10
_FIRST_RESERVED_SECTION = 0xFF00
_HIGHEST = np.uint64(2**64 - 1)


_Layouts = dict[int, np.dtype[np.void]]
"""The layout of a record in files of 32 bits (class 1) and of 64 bits (class 2)."""


def _layouts(narrow: str, wide: str = "") -> _Layouts:
    """Make layouts of words such as ``name:4``; W is the size of an address."""
    classes = {1: narrow.replace("W", "4"), 2: (wide or narrow).replace("W", "8")}
    return {
        number: np.dtype([(name, f"<u{size}") for name, size in re.findall(r"(\w+):(\d)", fields)])
        for number, fields in classes.items()
    }


_HEADER = _layouts(
    "type:2 machine:2 version:4 entry:W phoff:W shoff:W flags:4 ehsize:2 phentsize:2 phnum:2"
    " shentsize:2 shnum:2 shstrndx:2"
)
_SEGMENT = _layouts(
    "type:4 offset:W vaddr:W paddr:W filesz:W memsz:W flags:4 align:W",
    "type:4 flags:4 offset:W vaddr:W paddr:W filesz:W memsz:W align:W",
)
_SECTION = _layouts("name:4 type:4 flags:W addr:W offset:W size:W link:4 info:4 align:W entsize:W")
_SYMBOL = _layouts(
    "name:4 value:W size:W info:1 other:1 section:2",
    "name:4 info:1 other:1 section:2 value:W size:W",
)


class MalformedError(Exception):
    """A file that is no ELF file, is broken, or is too large to be read."""


class Elf:
    """One ELF file: executable, library, or file of debug symbols. Little-endian, 32 or 64 bit."""

    def __init__(self, read: ReadAt) -> None:
        """Read the headers; MalformedError where there are none."""
        self.read = read
        head = read(0, 16)
        if head[:4] != b"\x7fELF" or head[4:5] not in {b"\1", b"\2"} or head[5:6] != b"\1":
            raise MalformedError
        self._class = head[4]
        header = self._table(_HEADER, 16, 1)[0]
        self._segments = self._entries(header, "ph", _SEGMENT, MAX_SEGMENTS)
        self.sections = self._entries(header, "sh", _SECTION, MAX_SECTIONS)
        self._names_section = int(header["shstrndx"])

    def _table(self, layout: _Layouts, offset: int, count: int) -> Records:
        size = count * layout[self._class].itemsize
        return np.frombuffer(self.bytes_at(offset, size), layout[self._class])

    def _entries(self, header: Records, kind: str, layout: _Layouts, most: int) -> Records:
        offset, count = int(header[f"{kind}off"]), int(header[f"{kind}num"])
        if not offset:
            count = 0
        elif header[f"{kind}entsize"] != layout[self._class].itemsize or count > most:
            raise MalformedError
        return self._table(layout, offset, count)

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Read exactly *size* bytes; MalformedError where there are fewer."""
        if offset + size >= 2**63:
            raise MalformedError
        data = self.read(offset, size) if size else b""
        if len(data) != size:
            raise MalformedError
        return data

    def named(self, name: bytes) -> Records | None:
        """Return the section of this name, None where it is absent."""
        if self._names_section >= len(self.sections):
            return None
        names = int(self.sections[self._names_section]["offset"])
        for section in self.sections:
            if self.read(names + int(section["name"]), len(name) + 1) == name + b"\0":
                found: Records = section
                return found
        return None

    def content(self, name: bytes, max_bytes: int) -> bytes:
        """Return what is in the section of this name; b"" where it is absent, empty or larger."""
        section = self.named(name)
        if section is None or section["type"] == _NOBITS or section["size"] > max_bytes:
            return b""
        return self.bytes_at(int(section["offset"]), int(section["size"]))

    @property
    def build_id(self) -> bytes:
        """The build id; b"" where there is none that the kernel reads."""
        for segment in self._segments[self._segments["type"] == _NOTE]:
            size = min(int(segment["filesz"]), MAX_NOTE_BYTES)
            found = _build_id(self.bytes_at(int(segment["offset"]), size))
            if found:
                return found
        return b""

    def virtual(self, offsets: Ints) -> Addresses:
        """Return the virtual addresses of the code at *offsets* (N,); 2**64 - 1 where none is."""
        found = np.full(len(offsets), _HIGHEST)
        wanted = np.asarray(offsets).astype(np.uint64)
        for segment in self._segments[self._segments["type"] == _LOAD]:
            if segment["flags"] & _EXECUTABLE:
                begin = np.uint64(segment["offset"])
                inside = (wanted >= begin) & (wanted - begin < np.uint64(segment["filesz"]))
                found[inside] = wanted[inside] - begin + np.uint64(segment["vaddr"])
        return found

    def symbol_sections(self, kind: int) -> Records:
        """Return the section that is a table of symbols, ``SYMTAB`` or ``DYNSYM``, if there is one.

        A file has one of each. Thousands could have the same symbols, and each is loaded.
        """
        layout = _SYMBOL[self._class]
        is_table = (
            (self.sections["type"] == kind)
            & (self.sections["entsize"] == layout.itemsize)
            & (self.sections["size"] >= layout.itemsize)
            & (self.sections["link"] < len(self.sections))
        )
        return np.compress(is_table, self.sections)[:1]

    def functions(self, section: Records) -> Iterator[Records]:
        """Read the defined symbols of one table that may name code, a piece at a time."""
        layout = _SYMBOL[self._class]
        count = int(section["size"]) // layout.itemsize
        if count > MAX_SYMBOLS:
            raise MalformedError
        for first in range(0, count, _SYMBOLS_AT_ONCE):
            offset = int(section["offset"]) + first * layout.itemsize
            symbols = self._table(_SYMBOL, offset, min(_SYMBOLS_AT_ONCE, count - first))
            kind, place = symbols["info"] & 15, symbols["section"]
            is_code = (kind == _FUNCTION) | (kind == _IFUNC) | (kind == _NOTYPE)
            is_defined = (place > 0) & (place < min(_FIRST_RESERVED_SECTION, len(self.sections)))
            yield symbols[is_code & is_defined & (symbols["name"] > 0)]


def _build_id(notes: bytes) -> bytes:
    """Find the GNU build id among notes; b"" where it is absent or too long."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, size, kind = (
            int.from_bytes(notes[offset + part : offset + part + 4], "little") for part in (0, 4, 8)
        )
        begin = offset + 12 + (name_size + 3 & ~3)
        is_build_id = kind == _BUILD_ID and notes[offset + 12 : begin] == b"GNU\0"
        if is_build_id and 0 < size <= min(MAX_BUILD_ID_BYTES, len(notes) - begin):
            return notes[begin : begin + size]
        offset = begin + (size + 3 & ~3)
    return b""


def reader_of(data: bytes) -> ReadAt:
    """Make a ``ReadAt`` of bytes in memory."""
    return lambda offset, size: data[offset : offset + size]
