"""A real `kepler-ebpf run`, what it serves, and what it costs."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import OURS, Checkout, cpu_clock_s, group

HOST = "127.0.0.1"
START_S = END_S = 20.0
SCRAPE_S = 30.0
PROCESS_SERIES = "\nkepler_process_cpu_seconds_total{"
KB_PER_MB = 1024

USER = "bench"
"""The user of web configurations, with the same text as the password."""

CREDENTIALS = {"Authorization": f"Basic {base64.b64encode(f'{USER}:{USER}'.encode()).decode()}"}

Labels = dict[str, str]


class Scrape:
    """The samples of one page."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, name: str, **labels: str) -> list[tuple[Labels, float]]:
        """All samples of *name* that have these labels."""
        found = self._samples.get(name, [])
        return [each for each in found if labels.items() <= each[0].items()]

    def total(self, name: str, **labels: str) -> float:
        """The sum of them, 0 where there are none."""
        return sum(value for _, value in self.of(name, **labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The sums of them by one of their labels."""
        sums: dict[str, float] = {}
        for found, value in self.of(name, **labels):
            sums[found[label]] = sums.get(found[label], 0.0) + value
        return sums


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB of 1024 KB, Pss with its part of what is shared."""

    rss_mb: float
    pss_mb: float


class Exporter:
    """A running exporter."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.pid = process.pid
        self.port = port
        self._process = process

    def fetch(self) -> str:
        """The metrics page; OSError where nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=SCRAPE_S)
        try:
            connection.request("GET", "/metrics", headers=CREDENTIALS)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def scrape(self) -> Scrape:
        """The samples of the metrics page."""
        return Scrape(self.fetch())

    def settled(self, interval_s: float = 1.0) -> Scrape:
        """The samples after everything up to now is certain to be in them."""
        time.sleep(2 * interval_s)
        return self.scrape()

    def await_series(self, pause_s: float = 0.05) -> None:
        """Wait for process series."""
        give_up_s = time.monotonic() + START_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise RuntimeError(f"{self._process.args!r} serves no process: see its log above")
            time.sleep(pause_s)

    def cpu_s(self) -> float:
        """CPU time it has used."""
        return cpu_clock_s(self.pid)

    def share(self, seconds: float) -> float:
        """The part of one CPU that it uses in the next *seconds*."""
        cpu_s, began_s = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_s() - cpu_s) / (time.monotonic() - began_s)

    def memory(self) -> Memory:
        """What it holds resident now."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii")
        sizes = dict(re.findall(r"^(Rss|Pss): +(\d+) kB", rollup, re.MULTILINE))
        return Memory(int(sizes["Rss"]) / KB_PER_MB, int(sizes["Pss"]) / KB_PER_MB)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def lines(self) -> Iterator[str]:
        """Yield each line that it prints."""
        yield from self._process.stdout or ()

    def peak_mb(self) -> float:
        """The most that it has ever held resident."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace")
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / KB_PER_MB

    def stop(self) -> None:
        """End it as a service manager would, and wait."""
        self._process.terminate()
        self._process.wait(END_S)

    def _serves(self) -> bool:
        try:
            return PROCESS_SERIES in self.fetch()
        except (OSError, http.client.HTTPException):
            return False


@contextmanager
def starting(
    *arguments: str,
    program: Sequence[str] = ("-m", "kepler_ebpf"),
    checkout: Checkout = OURS,
    within: Sequence[str] = (),
) -> Iterator[Exporter]:
    """Start `kepler-ebpf run` of a checkout with these arguments; nothing is served yet.

    *within* is a command that executes what follows it, in the same process.
    """
    port = _free_port()
    command = [*within, checkout.python, *program, "run"]
    command += ["--web.listen-address", f"{HOST}:{port}"]
    # A reader sees each interval; a base may be too old to know that readers might not.
    options = checkout.root / "kepler_ebpf" / "config" / "options.py"
    if "--served-interval" in options.read_text("utf-8"):
        command += ["--served-interval", "0s"]
    command += ["--log.level", "error", *arguments]
    with group(command, directory=checkout.root) as process:
        exporter = Exporter(process, port)
        yield exporter
        exporter.stop()


@contextmanager
def running(
    *arguments: str,
    program: Sequence[str] = ("-m", "kepler_ebpf"),
    checkout: Checkout = OURS,
    within: Sequence[str] = (),
) -> Iterator[Exporter]:
    """Start `kepler-ebpf run` like ``starting``, and wait until it serves process series."""
    with starting(*arguments, program=program, checkout=checkout, within=within) as exporter:
        exporter.await_series()
        yield exporter


@contextmanager
def config_file(text: str) -> Iterator[str]:
    """Give the name of a configuration file with this text."""
    with tempfile.NamedTemporaryFile("w", encoding="ascii", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        yield file.name


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
