"""profile_names: what it costs to name the places of a profile in libc, and in a large library."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.figure import Bar, Figure, rounded
from kepler_ebpf.profile.symbols.code_file import CodeFile, open_code

PLACES = 1_000
ROUNDS = 5
LARGE_BAR_MS = 40.0


def measure() -> Iterator[Figure]:
    """Open each file and name places all over it; the round with the least CPU time counts."""
    libc, large = (_largest(pattern) for pattern in ("*/libc.so.6", "*/libLLVM*.so*"))
    (libc_ms, libc_named), (large_ms, large_named) = _cost(libc), _cost(large)
    details = {
        "places": PLACES,
        "named": libc_named,
        "large": large.name,
        "large_mb": rounded(large.stat().st_size / 1e6),
        "large_ms": rounded(large_ms),
        "large_named": large_named,
    }
    yield Figure("profile_names", libc_ms, "ms", Bar(10), details, also=large_ms <= LARGE_BAR_MS)


def _largest(pattern: str) -> Path:
    return max(Path("/usr/lib").glob(pattern), key=lambda path: path.stat().st_size)


def _cost(path: Path) -> tuple[float, int]:
    """Return CPU milliseconds of a file, and how many of the places have names."""
    places = np.random.default_rng(1).integers(0, path.stat().st_size, PLACES)
    rounds = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        named = sum(map(bool, _opened(path).names(places, "/nowhere")))
        rounds.append((time.process_time() - began_s) * 1e3)
    return min(rounds), named


def _opened(path: Path) -> CodeFile:
    file = open_code(str(path))
    if file is None:
        raise RuntimeError(f"{path} is not an ELF file")
    return file
