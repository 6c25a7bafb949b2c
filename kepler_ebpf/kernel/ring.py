"""A ring buffer that the kernel side writes into.

It is read where it lies: its positions and its data are shared memory.
"""

from __future__ import annotations

import mmap

from kepler_ebpf.kernel.libbpf import map_entries

BUSY = 1 << 31
DISCARDED = 1 << 30
HEADER_BYTES = 8
"""Before each record: its size with the two flags above, then a word for the kernel alone."""


class Ring:
    """The ring buffer *map_fd*, whose descriptor belongs to the programs."""

    def __init__(self, map_fd: int, data_bytes: int = 0) -> None:
        self._fd, page = map_fd, mmap.PAGESIZE
        self._consumed = memoryview(mmap.mmap(map_fd, page)).cast("Q")
        self._shared = memoryview(
            mmap.mmap(map_fd, page + data_bytes, prot=mmap.PROT_READ, offset=page)
        )
        self._produced = self._shared[:page].cast("Q")

    def close(self) -> None:
        """Let go of the shared memory, which is unmapped with its last view."""
        del self._consumed, self._produced, self._shared


class DataRing(Ring):
    """A ring whose records are read; they wake nobody."""

    def __init__(self, map_fd: int) -> None:
        self.size_bytes = map_entries(map_fd)
        # The kernel maps the data twice, so that a record that wraps around is in one piece.
        super().__init__(map_fd, 2 * self.size_bytes)
        self._data = self._shared[mmap.PAGESIZE :]

    @property
    def pending_bytes(self) -> int:
        """What is in the ring and was not taken yet, in bytes, at most ``size_bytes``."""
        return self._produced[0] - self._consumed[0]

    def close(self) -> None:
        """Let go of the shared memory."""
        del self._data
        super().close()
