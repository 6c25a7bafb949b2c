"""A program that demangles C++ names: a name on each line of its input, and of its output.

Names are from files of strangers, and ``__cxa_demangle`` has no bounds: a short name may stand for
one of gigabytes, or end the program. It is so a process of its own, with few rights and limits.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress

MAX_BYTES = 4_096
"""Of a demangled name."""

_MEMORY_BYTES = 128 * 2**20
_CPU_S = 1
_NOBODY = 65_534
_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522


def main() -> None:
    """Demangle the lines of the standard input; what is no C++ name is an empty line."""
    demangle = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    libc = ctypes.CDLL(None)
    free = libc.free
    free.argtypes = [ctypes.c_void_p]
    with suppress(OSError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # Without root there may be capabilities that came from a service manager.
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        found = demangle(line.rstrip(b"\n"), None, None, None)
        name = b""
        if found:
            name = ctypes.string_at(found)[:MAX_BYTES]
            free(found)
        sys.stdout.buffer.write(name.replace(b"\n", b" ") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
