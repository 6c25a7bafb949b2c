"""The table by which Go's runtime knows its functions: it is there when symbols are stripped."""

from __future__ import annotations

import struct

import numpy as np

from kepler_ebpf.model.arrays import Records
from kepler_ebpf.profile.symbols.elf import Elf, MalformedError
from kepler_ebpf.profile.symbols.ranges import Addresses, Ranges

MAX_FUNCTIONS = 1_000_000
MAX_NAME_BYTES = 1_024

_SECTIONS = b".gopclntab", b".data.rel.ro.gopclntab"
_HEADER = struct.Struct("<IxxxBQQQQQQQQ")
_MAGICS = 0xFFFFFFF0, 0xFFFFFFF1
"""Of Go 1.18, and of 1.20 and later."""

_POINTER_BYTES = 8
_MAX_PADDING = 64


class GoTable:
    """Functions of a Go program of 64 bits."""

    def __init__(self, elf: Elf) -> None:
        """Read the table; MalformedError where there is none that is understood."""
        sections = [elf.named(name) for name in (*_SECTIONS, b".text")]
        table, code = sections[0] or sections[1], sections[2]
        if table is None or code is None:
            raise MalformedError
        self._elf, self._begin = elf, int(table["offset"])
        magic, pointer_bytes, count, _, text, self._names, *_, self._functions = _HEADER.unpack(
            elf.bytes_at(self._begin, _HEADER.size)
        )
        if magic not in _MAGICS or pointer_bytes != _POINTER_BYTES or count > MAX_FUNCTIONS:
            raise MalformedError
        words = elf.bytes_at(self._begin + self._functions, 8 * count + 4)
        offsets = np.frombuffer(words, "<u4").astype(np.uint64)
        bounds = offsets[::2] + np.uint64(text or _text(code, int(offsets[-1])))
        self._details = offsets[1::2]
        self._ranges = Ranges(bounds[:-1], bounds[1:])
        self.nbytes = self._details.nbytes + self._ranges.nbytes

    def find(self, addresses: Addresses) -> list[str]:
        """Return the name of the function at each of *addresses* (N,); "" where there is none."""
        return [self._name(at) if at >= 0 else "" for at in self._ranges.find(addresses).tolist()]

    def _name(self, at: int) -> str:
        """Read the name of a function: it is where the function's details refer to."""
        details = int(self._details[self._ranges.same_start(at, 1)[0]])
        place = self._elf.read(self._begin + self._functions + details + 4, 4)
        name = self._begin + self._names + int.from_bytes(place, "little")
        return self._elf.read(name, MAX_NAME_BYTES).partition(b"\0")[0].decode("utf-8", "replace")


def _text(code: Records, size: int) -> int:
    """Return where Go's code begins, of which there are *size* bytes.

    Go 1.26 leaves that to the linker. It is known where there is nothing else in the section.
    """
    if not 0 <= int(code["size"]) - size <= _MAX_PADDING:
        raise MalformedError
    return int(code["addr"])
