"""The kernel's call that a cgroup was made, for who does not want to wait for the interval's end.

A ring buffer that nobody reads: its descriptor is readable while there is something in it, and
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
        self._heard = memoryview(self._consumer).cast("Q")
        self._rung = memoryview(self._producer).cast("Q")

    def fileno(self) -> int:
        """Return the descriptor, readable after the bell was rung until ``acknowledge``."""
        return self._fd

    def acknowledge(self) -> None:
        """Take note of every ring so far."""
        self._heard[0] = self._rung[0]

    def close(self) -> None:
        """Let go of the shared memory; the descriptor belongs to the programs."""
        self._heard.release()
        self._rung.release()
        self._consumer.close()
        self._producer.close()
