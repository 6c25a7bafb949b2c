"""The names in one symbol table of a file."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.model.arrays import Bools, Records
from kepler_ebpf.profile.symbols.elf import Elf
from kepler_ebpf.profile.symbols.ranges import Addresses, Ranges

MAX_NAME_BYTES = 4_096
_SHORT_NAME_BYTES = 128
_MAX_ALIASES = 8
_RANK = {1: 0, 2: 1}
"""By binding: a global name is better than a weak one, and that than a local one."""


class SymbolTable:
    """Functions of one table. Their names are read from the file when they are wanted."""

    def __init__(self, elf: Elf, section: Records, *, is_whole: bool) -> None:
        """Read a *section* of symbols; MalformedError where it is broken.

        A symbol without a size, as of hand-written code, reaches to the next symbol where the
        table *is_whole*. In a table of exports, functions without a name may lie between.
        """
        self._read = elf.read
        strings = elf.sections[int(section["link"])]
        self._strings = int(strings["offset"]), int(strings["size"])
        symbols = np.concatenate([*elf.functions(section)])
        starts = symbols["value"].astype(np.uint64)
        sizes = np.minimum(symbols["size"].astype(np.uint64), ~starts)
        self._parts = [_Part(symbols, sizes > 0, starts, starts + sizes)]
        if is_whole:
            ends = _next_starts(elf, symbols, starts)
            self._parts.append(_Part(symbols, sizes == 0, starts, ends))

    @property
    def nbytes(self) -> int:
        """Memory that the table takes."""
        return sum(part.nbytes for part in self._parts)

    def find(self, addresses: Addresses) -> list[str]:
        """Return the name of the function at each of *addresses* (N,); "" where there is none."""
        names = [""] * len(addresses)
        for part in self._parts:
            known = {-1: ""}
            for index, at in enumerate(part.ranges.find(addresses).tolist()):
                if at not in known:
                    known[at] = self._best(part, at)
                names[index] = names[index] or known[at]
        return names

    def _best(self, part: _Part, at: int) -> str:
        """Return the name that people use, of those that a function has."""
        aliases = part.ranges.same_start(at, _MAX_ALIASES)
        names = [self._name(offset) for offset in part.names[aliases].tolist()]
        ranks = [_RANK.get(info >> 4, len(_RANK)) for info in part.infos[aliases].tolist()]
        return min(
            zip(names, ranks, strict=True),
            key=lambda alias: (len(alias[0]) - len(alias[0].lstrip("_")), alias[1], len(alias[0])),
        )[0]

    def _name(self, offset: int) -> str:
        """Read a name; of a longer one than ``MAX_NAME_BYTES`` the beginning."""
        begin, size = self._strings
        name = b""
        for most in (_SHORT_NAME_BYTES, MAX_NAME_BYTES):
            raw = self._read(begin + offset, max(0, min(most, size - offset)))
            name, end, _ = raw.partition(b"\0")
            if end:
                break
        # Behind an @ is the version of an exported symbol. ARM marks pieces of code by $x.
        text = name.decode("utf-8", "replace").partition("@")[0]
        return "" if text.startswith("$") else text


class _Part:
    def __init__(self, symbols: Records, chosen: Bools, starts: Addresses, ends: Addresses) -> None:
        self.names, self.infos = symbols["name"][chosen], symbols["info"][chosen]
        self.ranges = Ranges(starts[chosen], ends[chosen])
        self.nbytes = self.names.nbytes + self.infos.nbytes + self.ranges.nbytes


def _next_starts(elf: Elf, symbols: Records, starts: Addresses) -> Addresses:
    """Return where the next symbol begins, or the section ends."""
    sections = elf.sections[symbols["section"]]
    section_ends = sections["addr"].astype(np.uint64) + sections["size"].astype(np.uint64)
    every = np.append(np.unique(starts), np.uint64(2**64 - 1))
    following = every[np.searchsorted(every[:-1], starts, "right")]
    ends: Addresses = np.minimum(following, section_ends)
    return ends
