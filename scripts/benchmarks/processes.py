"""What the benchmarks start: loads and helpers, each gone when its context ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOAD = Path(__file__).with_name("load.py")
ROOT = LOAD.parents[2]
END_S = 60.0
"""A load that does not end in this time after it was told to is killed."""

_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of this repository that `scripts/run` or `scripts/bench` has set up."""

    root: Path

    @property
    def python(self) -> str:
        """Its own interpreter, which runs its own `kepler_ebpf`."""
        return str(self.root / ".venv" / "bin" / "python")


OURS = Checkout(ROOT)


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time that a load and its children used, by their own rusage, in so much time."""

    cpu_s: float
    wall_s: float


class Load:
    """A load that has started and waits for ``go``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.await_line("ready")

    def go(self) -> None:
        """Let it work."""
        tell(self._process, "go\n")

    def await_line(self, text: str) -> None:
        """Wait until it has said *text*."""
        line = line_of(self._process)
        if line.strip() != text:
            raise RuntimeError(f"{self._process.args!r} said {line!r} instead of {text}")

    def finish(self) -> Used:
        """Wait for its own end."""
        used = Used(**json.loads(line_of(self._process)))
        self._process.wait(END_S)
        return used

    def end(self) -> Used:
        """End it."""
        self._process.terminate()
        return self.finish()


@contextmanager
def load(kind: str, *arguments: object, cpu: int | None = None, nice: int = 0) -> Iterator[Load]:
    """Start the load *kind* of ``load.py`` on any CPU or on *cpu*; it waits for ``go``."""
    command = [sys.executable, "-I", "-S", str(LOAD), kind, *map(str, arguments)]
    if cpu is not None:
        command = ["taskset", "-c", str(cpu), *command]
    if nice:
        command = ["nice", "-n", str(nice), *command]
    with group(command) as process:
        yield Load(process)


@contextmanager
def working(kind: str, *arguments: object, cpu: int | None = None, nice: int = 0) -> Iterator[Load]:
    """Run a load for the length of the context."""
    with load(kind, *arguments, cpu=cpu, nice=nice) as started:
        started.go()
        yield started


@contextmanager
def sleepers(count: int, wake_every_s: float = 0) -> Iterator[None]:
    """Have so many sleeping processes, all there when the context begins.

    Each wakes every *wake_every_s*, one after the other at even distances; 0 for never.
    """
    kind = ("wakers", count, wake_every_s) if wake_every_s else ("sleepers", count)
    with working(*kind) as started:
        started.await_line("started")
        yield
        started.end()


@contextmanager
def group(
    command: Sequence[str], environ: dict[str, str] | None = None, directory: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own; all of that is killed in the end."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=os.environ | (environ or {}),
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def compiled(source: Path) -> Iterator[str]:
    """Compile a program in C, into a folder that is gone in the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / source.stem)
        options = ["-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"]
        subprocess.run(["clang", *options, "-o", path, str(source)], check=True)
        yield path


def cpu_clock_s(pid: int) -> float:
    """CPU time of a process, exact but for the tick under way on another CPU."""
    # As clock_getcpuclockid(3) makes it: there is no call for it in Python.
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def two_cpus() -> tuple[int, int]:
    """Two CPUs that may be used."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        raise RuntimeError("this needs two CPUs")
    return usable[0], usable[1]


def grid(interval_s: float, count: int) -> Iterator[int]:
    """Wait for each of *count* instants that do not drift."""
    due_s = time.monotonic()
    for number in range(count):
        due_s += interval_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        yield number


def tell(process: subprocess.Popen[str], text: str) -> None:
    """Write *text* to what it reads."""
    if process.stdin is not None:
        process.stdin.write(text)
        process.stdin.flush()


def line_of(process: subprocess.Popen[str]) -> str:
    """Read the next line it says, "" when it has ended."""
    return process.stdout.readline() if process.stdout is not None else ""
