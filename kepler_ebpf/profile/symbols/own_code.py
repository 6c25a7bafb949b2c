"""The code in this process, which others have too: the kernel's vDSO, and common libraries."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kepler_ebpf.profile.symbols.code_file import CodeFile
from kepler_ebpf.profile.symbols.elf import MalformedError, reader_of
from kepler_ebpf.profile.symbols.open_file import OpenFile

VDSO = "[vdso]"

_MAX_BYTES = 2**20
_MAPPING = re.compile(r"^(\w+)-(\w+) ..x. \S+ \S+ \S+ +(\S.*)$", re.MULTILINE)


def own_maps() -> list[tuple[int, int, str]]:
    """Return start, end and path of the executable mappings of this process that have a path."""
    text = Path("/proc/self/maps").read_text("utf-8", "replace")
    return [(int(start, 16), int(end, 16), path) for start, end, path in _MAPPING.findall(text)]


def read_vdso(maps: Sequence[tuple[int, int, str]]) -> CodeFile | None:
    """Read the vDSO from memory: all 64-bit processes have the same."""
    for start, end, path in maps:
        if path == VDSO:
            with suppress(OSError, MalformedError):
                memory = OpenFile(os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC))
                return CodeFile(VDSO, reader_of(memory.read(start, min(end - start, _MAX_BYTES))))
    return None
