"""The code that the kernel maps into every process."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kepler_ebpf.profile.symbols.code_file import CodeFile
from kepler_ebpf.profile.symbols.elf import MalformedError, reader_of
from kepler_ebpf.profile.symbols.open_file import OpenFile

VDSO = "[vdso]"

_MAX_BYTES = 2**20


def read_vdso() -> CodeFile | None:
    """Read the vDSO from the memory of this process: all 64-bit processes have the same."""
    maps = Path("/proc/self/maps").read_text("utf-8", "replace")
    found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", maps, re.MULTILINE)
    if not found:
        return None
    start, end = int(found[1], 16), int(found[2], 16)
    memory = OpenFile(os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC))
    try:
        return CodeFile(VDSO, reader_of(memory.read(start, min(end - start, _MAX_BYTES))))
    except MalformedError:
        return None
