"""Names of the kernel's functions, from /proc/kallsyms."""

from __future__ import annotations

import numpy as np

from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.profile.model import Frame, Origin
from kepler_ebpf.profile.symbols.ranges import Ranges

NAMELESS = Frame("[kernel]", "[kernel]", Origin.KERNEL)
"""A function of the kernel without a name."""

MAX_BYTES = 64 * 2**20
"""Of the table that are read; a large kernel has 20 MB."""

MAX_FUNCTION_BYTES = 2**20
"""The table has no lengths: what is farther behind a symbol has no name."""

_DIGITS = 16
_KINDS = np.frombuffer(b"tTwW", np.uint8)
_MAX_ALIASES = 8


class Kallsyms:
    """The table as it was read: functions of the kernel, its modules and BPF programs."""

    def __init__(self, text: bytes) -> None:
        """Read *text*, the lines of which are ``address kind name [module]``."""
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == ord("\n"))
        begins = np.append(0, ends + 1)[: len(ends)]
        begins = begins[ends - begins > _DIGITS + len(" t ")]
        starts = np.zeros(len(begins), np.uint64)
        for place in range(_DIGITS):
            digit = raw[begins + place]
            value = np.where(digit > ord("9"), digit - ord("a") + 10, digit - ord("0")) & 15
            starts = starts << np.uint64(4) | value
        self.is_hidden = not starts.any()
        """Whether the kernel shows its addresses to nobody, or not to this process."""
        following = np.append(np.unique(starts), np.uint64(2**64 - 1))
        nexts = following[np.searchsorted(following[:-1], starts, "right")]
        is_code = np.isin(raw[begins + _DIGITS + 1], _KINDS) & (starts > 0)
        starts, nexts = starts[is_code], nexts[is_code]
        lengths = np.minimum(nexts - starts, np.uint64(MAX_FUNCTION_BYTES))
        self._text, self._names = text, begins[is_code] + _DIGITS + len(" t ")
        self._ranges = Ranges(starts, starts + lengths)

    def find(self, addresses: Ints) -> list[Frame]:
        """Return the frame of each address (N,); those of the kernel are negative as ``Ints``."""
        at = self._ranges.find(addresses)
        known = {place: self._frame(place) for place in np.unique(at).tolist()}
        return [known[place] for place in at.tolist()]

    def _frame(self, at: int) -> Frame:
        if at < 0:
            return NAMELESS
        aliases = self._names[self._ranges.same_start(at, _MAX_ALIASES)].tolist()
        lines = [self._text[begin : self._text.index(b"\n", begin)] for begin in aliases]
        name, _, module = min(
            (line.decode("ascii", "replace").partition("\t") for line in lines),
            key=lambda parts: (len(parts[0]) - len(parts[0].lstrip("_")), parts),
        )
        return Frame(name, module or NAMELESS.module, Origin.KERNEL)


def read_kallsyms(procfs: str) -> Kallsyms:
    """Read the table of the running kernel; where there is none it is empty, and so hidden."""
    try:
        with open(f"{procfs}/kallsyms", "rb") as file:  # noqa: PTH123
            return Kallsyms(file.read(MAX_BYTES))
    except OSError:
        return Kallsyms(b"")
