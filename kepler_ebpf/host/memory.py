"""The memory of this process in few large pages, so that an interval touches few of them.

An interval uses a little of everything the interpreter has loaded. In pages of 4 KiB that is some
hundreds of them, each of which costs microseconds where a hypervisor has put idle memory aside.
The interpreter takes an arena of 1 MiB for small objects whenever it needs one, and what is
imported meanwhile lies between them; so ``__main__`` reserves them in one piece at its start.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

MADV_COLLAPSE = 25
HUGE_PAGE_BYTES = 1 << 21
SMALL_PAGES = HUGE_PAGE_BYTES // mmap.PAGESIZE
MIN_PRESENT_PAGES = SMALL_PAGES * 3 // 4
"""A huge page is made only of memory that is nearly all in use: the rest of it costs as well."""

_PRESENT = 1 << 7
"""In the last byte of each word of a page map."""


def collapse() -> int:
    """Put the memory of this process into huge pages; return how many there are.

    Kernels before 6.1, and those without huge pages, leave it as it is.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    try:
        ranges = full_ranges()
    except OSError:  # A kernel without page maps.
        return 0
    return sum(not madvise(address, HUGE_PAGE_BYTES, MADV_COLLAPSE) for address in ranges)


def full_ranges() -> list[int]:
    """Return the addresses of what may become huge pages."""
    full = []
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for start, end in _writable_anonymous():
            first = -(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
            for address in range(first, end - HUGE_PAGE_BYTES + 1, HUGE_PAGE_BYTES):
                pagemap.seek(address // mmap.PAGESIZE * 8)
                last_bytes = pagemap.read(SMALL_PAGES * 8)[7::8]
                if sum(byte & _PRESENT for byte in last_bytes) >= MIN_PRESENT_PAGES * _PRESENT:
                    full.append(address)
    return full


def _writable_anonymous() -> list[tuple[int, int]]:
    """Return start and end of the private memory that belongs to no file, the stack left out."""
    spans = []
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, rights, _, _, inode, *name = line.split(None, 5)
            if rights == "rw-p" and inode == "0" and not "".join(name).startswith("[stack"):
                start, _, end = span.partition("-")
                spans.append((int(start, 16), int(end, 16)))
    return spans
