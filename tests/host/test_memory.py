"""The memory of a process goes into huge pages where nearly all of it is in use."""

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from kepler_ebpf.host import memory
from kepler_ebpf.host.memory import HUGE_PAGE_BYTES, SMALL_PAGES

MAX_GROWTH_KB = 6 << 10
HAS_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage").exists()

COLLAPSE = """
from pathlib import Path
from kepler_ebpf.__main__ import _reserve_arenas
kept = _reserve_arenas()
from kepler_ebpf.host.memory import collapse

def figures():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return values["Rss"], values["AnonHugePages"]

before_kb, _ = figures()
count = collapse()
after_kb, huge_kb = figures()
print(count, after_kb - before_kb, huge_kb)
"""


@pytest.mark.skipif(not HAS_HUGE_PAGES, reason="this kernel has no huge pages")
def test_reserved_memory_gets_into_huge_pages(checkout):
    """They are there as counted, and the process takes hardly more memory than before."""
    ended = subprocess.run(
        [sys.executable, "-c", COLLAPSE], check=True, cwd=checkout, stdout=subprocess.PIPE
    )
    count, growth_kb, huge_kb = map(int, ended.stdout.split())
    assert count > 0
    assert huge_kb > 0
    assert growth_kb <= MAX_GROWTH_KB


@pytest.mark.parametrize(("pages", "is_full"), [(SMALL_PAGES * 7 // 8, True), (64, False)])
def test_only_memory_in_use_is_chosen(pages, is_full):
    """The page map shows how many pages of a range have been touched."""
    with mmap.mmap(-1, 2 * HUGE_PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as space:
        space.madvise(mmap.MADV_NOHUGEPAGE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(space))
        first = -begin % HUGE_PAGE_BYTES
        for page in range(pages):
            space[first + page * mmap.PAGESIZE] = 1
        assert (begin + first in memory.full_ranges()) is is_full


def test_kernel_without_page_maps_is_left_alone(monkeypatch):
    """The figure is only nice to have: a run does not end for it."""

    def refuse() -> list[int]:
        raise FileNotFoundError

    monkeypatch.setattr(memory, "full_ranges", refuse)
    assert memory.collapse() == 0
