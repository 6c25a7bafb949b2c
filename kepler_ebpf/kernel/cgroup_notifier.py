"""Notices that a cgroup was made, so that its event need not wait for the end of an interval.

A ring buffer whose records are not read: its descriptor is readable while it holds some, and
``acknowledge`` empties it by moving the consumer's position to the producer's.
"""

from __future__ import annotations

import mmap


class CgroupNotifier:
    """The ring buffer *map_fd*. ``fileno`` makes it something to select on."""

    def __init__(self, map_fd: int) -> None:
        self._fd = map_fd
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(map_fd, page)
        self._producer = mmap.mmap(map_fd, page, prot=mmap.PROT_READ, offset=page)
        self._consumed = memoryview(self._consumer).cast("Q")
        self._produced = memoryview(self._producer).cast("Q")

    def fileno(self) -> int:
        """Return the descriptor, readable from a notice on until ``acknowledge``."""
        return self._fd

    def acknowledge(self) -> None:
        """Drop all notices so far."""
        self._consumed[0] = self._produced[0]

    def close(self) -> None:
        """Unmap the shared memory; the descriptor belongs to the programs."""
        self._consumed.release()
        self._produced.release()
        self._consumer.close()
        self._producer.close()
