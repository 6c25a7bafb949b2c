"""oom_...: resident memory under what strangers do, at the limit that is shipped. hostile_start.

Everything that writes names, opens connections or makes cgroups does so as fast as it can.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.cgroup import cgroups
from benchmarks.exporter import HOST, Exporter, running, starting
from benchmarks.figure import Bar, Figure, Measure, rounded
from benchmarks.length import scaled
from benchmarks.processes import ROOT, working

SECONDS = 600.0
LIMIT_BYTES = 512 << 20
"""That of the manifests and of the unit."""

SCRAPE_EVERY_S = 1.0
NOBODY = 65534
BLOCK_BYTES = 65_000
VMS, NAMES, CGROUPS, READERS = 400, 60, 300, 32
START_POLL_S, START_SETTLE_S = 0.01, 1.0
LOADS = ROOT / "tests" / "support" / "loads.py"
STORM = "import threading\nwhile True:\n threading.Thread(target=int).start()"

Attack = Callable[["Target"], None]
"""Goes on until the target stops."""


class Target:
    """The exporter that is attacked, None before its start, and the end of that."""

    def __init__(self, exporter: Exporter | None, stack: ExitStack) -> None:
        self.exporter = exporter
        self.stack = stack
        self.stop = threading.Event()

    def connect(self) -> socket.socket:
        """Connect to it. Raises OSError where it does not listen."""
        port = self.exporter.port if self.exporter else 0
        return socket.create_connection((HOST, port), timeout=5)


@contextmanager
def waiting(*arguments: str) -> Iterator[None]:
    """Run a process of nobody that waits, with any name and arguments."""
    name, *rest = arguments
    process = subprocess.Popen(
        [name, "-c", "read _", *rest], executable="/bin/sh", stdin=subprocess.PIPE, user=NOBODY
    )
    with process:
        try:
            yield
        finally:
            process.kill()


def _replaced(target: Target, number: int, arguments: Callable[[], list[str]]) -> None:
    """Keep *number* such processes, and replace them one by one."""
    slots = [target.stack.enter_context(ExitStack()) for _ in range(number)]
    while not target.stop.is_set():
        for slot in slots:
            if target.stop.is_set():
                return
            slot.close()
            slot.enter_context(waiting(*arguments()))


def vms(target: Target) -> None:
    """Processes that look like virtual machines of 21,000 arguments."""
    filler = ["ab"] * 21_000
    _replaced(target, VMS, lambda: ["qemu-system-x86_64", "-uuid", _word(20), *filler])


def names(target: Target) -> None:
    """Virtual machines with an id and a name of 30 kB, containers with long names."""
    with cgroups() as made:
        for number in range(CGROUPS):
            made.make(f"lxc.payload.{number}{'n' * 220}")
        _replaced(
            target,
            NAMES,
            lambda: ["qemu-system-x86_64", "-uuid", _word(30_000), "-name", _word(30_000)],
        )


def _word(length: int) -> str:
    return f"{random.getrandbits(64):x}".ljust(length, "x")


def headers(target: Target) -> None:
    """Connections that send 98 headers of 65 kB each, and readers that do not read."""
    while not target.stop.is_set():
        with ExitStack() as stack, suppress(OSError):
            clients = [stack.enter_context(target.connect()) for _ in range(READERS)]
            for client in clients:
                client.setblocking(False)
                with suppress(OSError):
                    client.send(b"GET /metrics HTTP/1.1\r\nAccept: " + b"," * 16_000 + b"\r\n")
            for number in range(98):
                for client in clients:
                    with suppress(OSError):
                        client.send(b"X-%d: " % number + b"x" * BLOCK_BYTES + b"\r\n")
            for client in clients:
                with suppress(OSError):
                    client.send(b"\r\n")
            target.stop.wait(0.2)


def churn(target: Target) -> None:
    """Cgroups made and removed, each with a process that looks in."""
    with cgroups() as made:
        number = 0
        while not target.stop.is_set():
            number += 1
            _, cgroup = made.container(number)
            if number % 50 == 0:
                pid = os.posix_spawn("/bin/true", ["true"], {})
                with suppress(OSError):
                    cgroup.enter(pid)
                os.waitpid(pid, 0)
            cgroup.remove()


def threads(target: Target) -> None:
    """Threads that end at once, and processes that do."""
    storm = subprocess.Popen([sys.executable, "-ISSc", STORM])
    try:
        while not target.stop.is_set():
            subprocess.run(
                [sys.executable, "-ISS", LOADS, "many_tasks"],
                input=b"\n\n",
                stdout=subprocess.DEVNULL,
                check=False,
            )
    finally:
        storm.kill()
        storm.wait()


ATTACKS: tuple[Attack, ...] = (vms, names, headers, churn, threads)


def _measure(attack: Attack) -> Iterator[Figure]:
    """Attack an exporter at the limit; give the most memory that it had."""
    seconds = scaled(SECONDS)
    with limited() as within, running("--meter", "fake", within=within) as exporter:
        page_bytes, honest = [], len(exporter.fetch())
        with attacked(exporter, attack):
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and exporter.is_alive:
                time.sleep(SCRAPE_EVERY_S)
                with suppress(OSError):
                    page_bytes.append(len(exporter.fetch()))
        alive = exporter.is_alive
        peak_mb = exporter.peak_mb() if alive else float(LIMIT_BYTES >> 20)
    details = {
        "alive": alive,
        "seconds": rounded(seconds),
        "limit_mb": LIMIT_BYTES >> 20,
        "scrapes": len(page_bytes),
        "page_bytes": honest,
        "page_bytes_max": max(page_bytes, default=0),
    }
    yield Figure(f"oom_{attack.__name__}", peak_mb, "MB", Bar(200), details, also=alive)


@contextmanager
def attacked(exporter: Exporter | None, *attacks: Attack) -> Iterator[None]:
    """Let all these go on for the length of the context."""
    with ExitStack() as stack:
        target = Target(exporter, stack)
        running_ = [threading.Thread(target=attack, args=(target,)) for attack in attacks]
        for thread in running_:
            thread.start()
        try:
            yield
        finally:
            target.stop.set()
            for thread in running_:
                thread.join()


@contextmanager
def limited() -> Iterator[tuple[str, ...]]:
    """Give the command that runs another one under the memory limit."""
    v1 = Path("/sys/fs/cgroup/memory")
    root = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
    directory = root / f"kepler-ebpf-bench-{os.getpid()}"
    directory.mkdir()
    file = "memory.limit_in_bytes" if root == v1 else "memory.max"
    try:
        (directory / file).write_text(str(LIMIT_BYTES))
        script = f'echo $$ >{directory}/cgroup.procs; exec "$@"'
        yield "sh", "-c", script, "sh"
    finally:
        while directory.exists():
            with suppress(OSError):
                directory.rmdir()
            time.sleep(0.01)


def start() -> Iterator[Figure]:
    """Start beside every attack at once: some stand already, and the others storm meanwhile."""
    with ExitStack() as stack, cgroups() as made:
        for number in range(CGROUPS):
            made.make(f"lxc.payload.{number}{'n' * 220}")
            made.container(number)
        for number in range(VMS):
            arguments = ("-uuid", _word(20), *["ab"] * 21_000) if number % 2 else ("x" * 60_000,)
            stack.enter_context(waiting("qemu-system-x86_64", *arguments))
        stack.enter_context(working("starts", 100, 0))
        stack.enter_context(attacked(None, churn, threads))
        time.sleep(START_SETTLE_S)
        began_s = time.monotonic()
        with starting("--meter", "fake") as exporter, attacked(exporter, headers):
            exporter.await_series(START_POLL_S)
            first_s = time.monotonic() - began_s
        details = {
            "processes": VMS,
            "cgroups": 2 * CGROUPS,
            "commands_per_s": 100,
            "meanwhile": "churn, threads, headers",
        }
    yield Figure("hostile_start", first_s, "s", Bar(2), details)


def _measure_of(attack: Attack) -> Measure:
    return lambda: _measure(attack)


MEASURES = {f"oom_{attack.__name__}": _measure_of(attack) for attack in ATTACKS}
"""Each attack by itself."""
