"""A powercap tree driven by the host's CPU time, so that a RAPL meter has something to read."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import ROOT, group

DRIVER = ROOT / "tests" / "support" / "powercap.py"


@contextmanager
def driven_tree(machine: str = "amd", idle_w: float = 20, busy_w: float = 10) -> Iterator[str]:
    """Give the sysfs directory of a driven tree; CPUs and the rest are the host's own."""
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as directory:
        sysfs = Path(directory, "sys")
        watts = ["--idle-w", f"{idle_w:g}", "--busy-w", f"{busy_w:g}"]
        command = [sys.executable, str(DRIVER), str(sysfs), "--machine", machine, *watts]
        with group(command) as driver:
            if driver.stdout is None or not driver.stdout.readline():
                raise RuntimeError(f"{DRIVER} did not start")
            for name in ("devices", "bus", "fs", "kernel"):
                (sysfs / name).symlink_to(Path("/sys", name))
            yield str(sysfs)
