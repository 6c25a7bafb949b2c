"""What jobs of others cost a `run`, and how exact their CPU time is."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.exporter import config_file, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS

BLOCKS = 20
NOBODY = 65534
CALLER = """
import json, time
from kepler_ebpf import measure
def block(cpu_s):
    began_s, cpu_began_s = time.monotonic(), time.process_time()
    with measure(children=True) as block:
        open_s, cpu_open_s = time.monotonic(), time.process_time()
        while time.process_time() < cpu_open_s + cpu_s: pass
        used_s, work_s = time.process_time() - cpu_open_s, time.monotonic() - open_s
    return block.cpu_s / used_s, time.monotonic() - began_s - work_s
block(0.01)
print(flush=True)
input()
print(json.dumps([block(0.05) for _ in range({})]))
"""


def jobs() -> Iterator[Figure]:
    """Measure the daemon's CPU time of a block, its CPU time to the caller's own, and its wait."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = f"{folder}/jobs.sock"
        arguments = ("--interval", "1h", "--meter", "estimate", "--jobs-socket", path)
        with running(*arguments) as exporter, config_file(f"ebpf: {{jobsSocket: {path}}}") as file:
            Path(file).chmod(0o644)
            caller = subprocess.Popen(
                [OURS.python, "-c", CALLER.format(BLOCKS)],
                cwd=OURS.root,
                env={**os.environ, "KEPLER_EBPF_CONFIG": file},
                user=NOBODY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            caller.stdout.readline()  # type: ignore[union-attr]
            before_s = exporter.cpu_s()
            out, _ = caller.communicate("\n")
            cost_s = exporter.cpu_s() - before_s
    ratios, waits_s = zip(*json.loads(out), strict=True)
    middle = BLOCKS // 2
    details = {
        "cpu_ratio": rounded(sorted(ratios)[middle]),
        "wait_ms": rounded(1e3 * sorted(waits_s)[middle]),
    }
    yield Figure("job_cost", 1e3 * cost_s / BLOCKS, "ms CPU", Bar(15), details)
