"""Names of code that a program makes while it runs, from the map that its runtime writes.

Node (``--perf-basic-prof``), Java agents, .NET and Python 3.12 (``-X perf``) write
``/tmp/perf-PID.map``: lines of start, size (both hexadecimal) and name.
"""

from __future__ import annotations

import numpy as np

from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.profile.symbols.ranges import Ranges

MAX_BYTES = 64 * 2**20
MAX_LINES = 500_000

_MAX_NAME_BYTES = 4_096
_HIGHEST = 2**63


class PerfMap:
    """A map as it was read. Of code at the same address the one written last counts."""

    def __init__(self, text: bytes) -> None:
        """Read *text*; a line that is none is left out."""
        rows = []
        for line in text.split(b"\n", MAX_LINES)[:MAX_LINES]:
            fields = line[:_MAX_NAME_BYTES].split(None, 2)
            try:
                start, size = int(fields[0], 16), int(fields[1], 16)
                name = fields[2].decode("utf-8", "replace")
            except (ValueError, IndexError):
                continue
            if 0 <= start < _HIGHEST and 0 < size < _HIGHEST:
                rows.append((start, start + size, name))
        starts = np.array([row[0] for row in rows], np.uint64)
        ends = np.array([row[1] for row in rows], np.uint64)
        self._names = [row[2] for row in rows]
        self._ranges = Ranges(starts, ends)

    def find(self, addresses: Ints) -> list[str]:
        """Return the name of the code at each address (N,); "" where the map has none."""
        return [
            self._names[self._ranges.same_start(at, 1)[0]] if at >= 0 else ""
            for at in self._ranges.find(addresses).tolist()
        ]
