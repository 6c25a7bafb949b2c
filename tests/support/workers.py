"""Real processes that use CPU when they are told to, and whose CPU time is known exactly."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHELL = os.path.realpath("/bin/sh")

SCRIPT = "while read -r n; do i=0; while [ $i -lt $n ]; do i=$((i+1)); done; echo; done"
"""Counts to each number it is given, and says when it is there."""

LOOPS = 200_000
"""What is counted to where a test wants CPU time worth measuring: near a tenth of a second."""

NS_PER_S = 1_000_000_000


class Worker:
    """A process that sleeps unless it was told to count."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take a shell that runs SCRIPT."""
        self._process = process
        self.pid = process.pid

    @property
    def cpu_s(self) -> float:
        """The CPU seconds it has used, by the scheduler's own account; exact while it sleeps."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / NS_PER_S

    def spin(self, loops: int = LOOPS) -> float:
        """Let it count, wait until it sleeps again, and return the CPU seconds it took."""
        before_s = self.cpu_s
        self.start(loops)
        self.await_done()
        return self.cpu_s - before_s

    def start(self, loops: int = LOOPS) -> None:
        """Let it count; ``await_done`` waits for it."""
        assert self._process.stdin
        self._process.stdin.write(b"%d\n" % loops)
        self._process.stdin.flush()

    def await_done(self) -> None:
        """Wait until it has counted and sleeps."""
        assert self._process.stdout
        self._process.stdout.readline()
        while self._state() != "S":
            os.sched_yield()

    def end(self) -> float:
        """Let it exit, and return all the CPU seconds it had, from its resource usage."""
        assert self._process.stdin
        self._process.stdin.close()
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def _state(self) -> str:
        stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        return stat.rpartition(b")")[2].split()[0].decode()


@contextmanager
def worker(
    folder: Path, name: str | bytes = "worker", *arguments: str | bytes, user: int = 0
) -> Iterator[Worker]:
    """Run a worker whose executable is a file called *name* in *folder*.

    Further *arguments* are for its command line only. It is killed in the end.
    """
    # Names need not be text.
    path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118
    if not os.path.exists(path):  # noqa: PTH110
        shutil.copy(os.fsencode(SHELL), path)
    process = subprocess.Popen(
        [path, "-c", SCRIPT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
    )
    with process:
        made = Worker(process)
        try:
            made.spin(0)
            yield made
        finally:
            process.kill()


@contextmanager
def never_idle(folder: Path, cpu: int) -> Iterator[None]:
    """Keep a CPU busy, so that no task on it ends an idle spell.

    The kernel's clock gives the end of such a spell to the task, ours leaves it to idle.
    """
    with worker(folder, "spinner") as spinner:
        os.sched_setaffinity(spinner.pid, {cpu})
        spinner.start(10**9)
        yield
