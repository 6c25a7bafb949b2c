"""Real processes for tests: shells under any name that wait until they are told to end."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kepler_ebpf.names.processes.procfs import NS_PER_TICK

SHELL = os.path.realpath("/bin/sh")


def start_ns_of(pid: int) -> int:
    """Return the start time of a live process, as exact as /proc has it."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[19]) * NS_PER_TICK


@contextmanager
def waiting_shell(*arguments: bytes | str, name: bytes | str = "sh") -> Iterator[int]:
    """Run a shell called *name* that waits, with more arguments it does not look at."""
    command = [name, "-c", "read _", *arguments]
    with subprocess.Popen(command, executable=SHELL, stdin=subprocess.PIPE) as process:
        # Popen returns when exec is certain to succeed, a moment before the arguments are there.
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            os.sched_yield()
        try:
            yield process.pid
        finally:
            process.kill()
