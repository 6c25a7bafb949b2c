"""top_cost: what `top` costs beside 5,000 tasks that all run in each interval."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from benchmarks.figure import Bar, Figure, rounded
from benchmarks.processes import OURS, cpu_clock_s, sleepers

TASKS = 5_000
COLUMNS, LINES = 120, 45
SETTLE_S = 8.0
REFRESHES = 12
KEYS = {"down": "j", "order": "s", "task view": "7", "tree": "6", "step back": "t", "detail": "\r"}
PRESSES = 20
PRESS_EVERY_S = 0.1
KB_PER_MB = 1024


def cost() -> Iterator[Figure]:
    """A screen in a terminal of its own, sampling and names included; keys; and what is printed."""
    with sleepers(TASKS, wake_every_s=1.0):
        with _Screen() as screen:
            screen.read_for(SETTLE_S)
            refresh_s = screen.cpu_s_of(REFRESHES) / REFRESHES
            keys_ms = {name: 1e3 * screen.key_s(key) for name, key in KEYS.items()}
            rss_mb = screen.rss_mb()
        batch_ms = list(_batch_ms())
    details = {"tasks": TASKS, "columns": COLUMNS, "lines": LINES}
    yield Figure("top_refresh_ms", 1e3 * refresh_s, "ms", Bar(60), details)
    each = {name: rounded(ms) for name, ms in keys_ms.items()}
    yield Figure("top_key_ms", max(keys_ms.values()), "ms", Bar(10), each)
    yield Figure("top_rss_mb", rss_mb, "MB", Bar(90), details)
    yield Figure("top_batch_ms", statistics.median(batch_ms), "ms", Bar(10), {"rows": LINES})


class _Screen:
    """`top` in a terminal, which is read all the time."""

    def __init__(self) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ["TERM"] = "xterm"
            command = [OURS.python, "-m", "kepler_ebpf", "top", "--interval", "1s"]
            os.execv(OURS.python, command)  # noqa: S606
        size = struct.pack("HHHH", LINES, COLUMNS, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def read_for(self, seconds: float) -> None:
        """Read what it writes for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select((self._terminal,), (), (), left_s)[0]:
                os.read(self._terminal, 65536)

    def cpu_s_of(self, seconds: float) -> float:
        """CPU time that it uses in the next *seconds*."""
        before_s = cpu_clock_s(self._pid)
        self.read_for(seconds)
        return cpu_clock_s(self._pid) - before_s

    def key_s(self, key: str) -> float:
        """CPU time of a key: of many in some seconds, less that of as many seconds without."""
        seconds = round(PRESSES * PRESS_EVERY_S)
        without_s, before_s = self.cpu_s_of(seconds), cpu_clock_s(self._pid)
        for _ in range(PRESSES):
            os.write(self._terminal, key.encode())
            self.read_for(PRESS_EVERY_S)
        return max(0.0, cpu_clock_s(self._pid) - before_s - without_s) / PRESSES

    def rss_mb(self) -> float:
        """What it has held resident at most."""
        status = Path(f"/proc/{self._pid}/status").read_text("ascii", "replace")
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / KB_PER_MB


def _batch_ms() -> Iterator[float]:
    """CPU time of making the lines of an interval, after the first."""
    with tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-") as directory:
        notes = Path(directory, "notes.json")
        arguments = ("top", "--batch", "-n", "6", "--interval", "1s", "--top", str(LINES))
        command = (sys.executable, "-m", "benchmarks.recorder", "batch", str(notes), *arguments)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for _, seconds in json.loads(notes.read_text("ascii"))[1:]:
            yield 1e3 * seconds
