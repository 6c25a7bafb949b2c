"""A file with code that was seen in a process, open until the profile has its names."""

from __future__ import annotations

from contextlib import suppress

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.profile.symbols.debug_info import symbol_tables
from kepler_ebpf.profile.symbols.elf import Elf, MalformedError, ReadAt
from kepler_ebpf.profile.symbols.go_table import GoTable
from kepler_ebpf.profile.symbols.open_file import OpenFile
from kepler_ebpf.profile.symbols.table import SymbolTable

INSTALLED_DIRECTORY = "/usr/lib"
"""Where Fedora and its kin list files by their build ids."""


class CodeFile:
    """An executable or a library. One is made for each build id, or file without one."""

    def __init__(self, path: str, read: ReadAt) -> None:
        """Read the build id, without zeros at its end; MalformedError for what is no ELF file.

        *path* is that of the file as its process has it.
        """
        self.path = path
        self.build_id = Elf(read).build_id.rstrip(b"\0")
        self._read = read
        self._tables: list[SymbolTable | GoTable] | None = None

    def names(self, offsets: Ints, debug_directory: str) -> list[str]:
        """Return the name of the function at each of *offsets* (N,) of the file, "" for none."""
        names = [""] * len(offsets)
        with suppress(MalformedError):
            addresses = Elf(self._read).virtual(offsets)
            if self._tables is None:
                self._tables = symbol_tables(self._read, self.path, debug_directory)
            for table in self._tables:
                found = table.find(addresses)
                names = [one or other for one, other in zip(names, found, strict=True)]
        return names

    @property
    def nbytes(self) -> int:
        """Memory that the tables take which are loaded."""
        return sum(table.nbytes for table in self._tables or ())

    def unload(self) -> None:
        """Forget the tables; they are read again when they are needed."""
        self._tables = None


def open_code(path: str) -> CodeFile | None:
    """Open a file by its path; None for what is no ELF file."""
    try:
        return CodeFile(path, OpenFile(open_regular(path)).read)
    except (OSError, ValueError, MalformedError):
        return None


def find_installed(build_id: bytes, debug_directory: str) -> CodeFile | None:
    """Find a file by its build id where distributions list what they have installed."""
    name = build_id.hex()
    for directory in (INSTALLED_DIRECTORY, debug_directory):
        file = open_code(f"{directory}/.build-id/{name[:2]}/{name[2:]}")
        if file and file.build_id == build_id:
            return file
    return None
