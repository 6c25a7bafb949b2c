"""The symbol tables of a file: its own, and those that a distribution keeps apart from it."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.profile.symbols.elf import DYNSYM, SYMTAB, Elf, MalformedError, ReadAt, reader_of
from kepler_ebpf.profile.symbols.go_table import GoTable
from kepler_ebpf.profile.symbols.open_file import OpenFile
from kepler_ebpf.profile.symbols.table import SymbolTable

DEBUG_DIRECTORY = "/usr/lib/debug"

MAX_PACKED_BYTES = 16 * 2**20
MAX_UNPACKED_BYTES = 32 * 2**20
"""Of MiniDebugInfo: in the file, and unpacked."""

MAX_SUMMED_BYTES = 256 * 2**20
"""Of a debug file without a build id, which is known by the checksum over all of it."""

_MAX_LINK_BYTES = 4_096
_SUMMED_AT_ONCE = 2**20


def symbol_tables(
    read: ReadAt, path: str, debug_directory: str = DEBUG_DIRECTORY
) -> list[SymbolTable | GoTable]:
    """Return the tables that name the functions of a file, the better first; [] if it is none.

    *path* is where the file lies, for debug files that lie beside it.
    """
    with suppress(MalformedError):
        elf = Elf(read)
        for whole in (elf, *_separate(elf, path, debug_directory)):
            tables = _tables(whole, SYMTAB)
            if tables:
                return [*tables]
        return [*_mini(elf), *_go(elf), *_tables(elf, DYNSYM)]
    return []


def _go(elf: Elf) -> Iterator[GoTable]:
    with suppress(MalformedError):
        yield GoTable(elf)


def _tables(elf: Elf, kind: int) -> list[SymbolTable]:
    tables = []
    for section in elf.symbol_sections(kind):
        with suppress(MalformedError):
            tables.append(SymbolTable(elf, section, is_whole=kind == SYMTAB))
    return tables


def _mini(elf: Elf) -> list[SymbolTable]:
    """Unpack MiniDebugInfo: a file of the functions that are not exported."""
    packed = elf.content(b".gnu_debugdata", MAX_PACKED_BYTES)
    with suppress(lzma.LZMAError, EOFError, MalformedError):
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_UNPACKED_BYTES)
        return _tables(Elf(reader_of(unpacker.decompress(packed, MAX_UNPACKED_BYTES))), SYMTAB)
    return []


def _separate(elf: Elf, path: str, debug_directory: str) -> Iterator[Elf]:
    """Open the file of debug symbols that belongs to a file: by build id, or by its link."""
    build_id = elf.build_id.hex()
    if build_id:
        found = _open(f"{debug_directory}/.build-id/{build_id[:2]}/{build_id[2:]}.debug")
        if found and found[1].build_id.hex() == build_id:
            yield found[1]
    link = elf.content(b".gnu_debuglink", _MAX_LINK_BYTES)
    name = os.fsdecode(link.partition(b"\0")[0])
    if not name or "/" in name:
        return
    folder = os.path.dirname(path)  # noqa: PTH120  a stranger's text
    for place in (folder, f"{folder}/.debug", f"{debug_directory}{folder}"):
        found = _open(f"{place}/{name}")
        if found and _belongs(*found, elf.build_id, link[-4:]):
            yield found[1]


def _open(path: str) -> tuple[OpenFile, Elf] | None:
    try:
        file = OpenFile(open_regular(path))
        return file, Elf(file.read)
    except (OSError, ValueError, MalformedError):
        return None


def _belongs(file: OpenFile, elf: Elf, build_id: bytes, checksum: bytes) -> bool:
    """Whether a debug file is that of a file: by build id, where that has none by checksum."""
    if build_id:
        return elf.build_id == build_id
    found = 0
    for offset in range(0, MAX_SUMMED_BYTES, _SUMMED_AT_ONCE):
        piece = file.read(offset, _SUMMED_AT_ONCE)
        if not piece:
            return found.to_bytes(4, "little") == checksum
        found = zlib.crc32(piece, found)
    return False
