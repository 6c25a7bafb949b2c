"""`kepler-ebpf run` as a user has it: a process of its own, scraped over HTTP, ended by signals."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "kepler_ebpf", "run")
ANY_PORT = ("--web.listen-address", "127.0.0.1:0", "--served-interval", "0s")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

GIVE_UP_S = 30.0
"""How long anything may take before the test fails: far more than it ever needs."""

STEPS = ("--interval", "1h", "--bpf-map-entries", "16384")
STEP_CONFIG = "monitor: {staleness: 100ms, minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"
STALE_S = 0.1
SETTLE_S = 1.0
"""With both, an interval ends when a test scrapes and at no other moment; see ``stepping``."""


@dataclass(frozen=True)
class Page:
    """One scrape: the text as it was served, and its samples."""

    text: str
    samples: tuple[Sample, ...]

    def find(self, name: str, **labels: str) -> list[Sample]:
        """Return the samples of that name which have these labels among theirs."""
        wanted = labels.items()
        return [
            each for each in self.samples if each.name == name and wanted <= each.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """Sum what ``find`` returns; 0 for nothing."""
        return sum(each.value for each in self.find(name, **labels))

    def zones(self) -> list[str]:
        """Return the kinds of zones there are."""
        return [each.labels["zone"] for each in self.find("kepler_node_cpu_joules_total")]

    @property
    def intervals(self) -> int:
        """How many intervals the run had closed."""
        return int(self.total("kepler_ebpf_intervals_total"))


class Run:
    """A `run` that has started and serves."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        """Wait for *process* to say that it has started; the test fails when it does not."""
        self.process = process
        self._log_file = log_file
        self._seen = 0
        self._stale_at = 0.0
        self.started_line = self._started_line()
        (self.address,) = re.findall(r'serving on ([^",]+)', self.started_line)

    @property
    def log(self) -> str:
        """What it has said on stderr."""
        return self._log_file.read_text("utf-8", "replace")

    def scrape(self, accept: str = "") -> Page:
        """Return the metrics page, in the format that *accept* asks for."""
        request = urllib.request.Request(
            f"http://{self.address}/metrics", headers={"Accept": accept} if accept else {}
        )
        with urllib.request.urlopen(request, timeout=GIVE_UP_S) as answer:  # noqa: S310
            text = str(answer.read(), "utf-8")
        page = page_of(text, is_openmetrics=accept == OPENMETRICS)
        self._seen = page.intervals
        self._stale_at = time.monotonic() + STALE_S
        return page

    def until(self, holds: Callable[[Page], object]) -> Page:
        """Scrape until a page satisfies *holds*, and return it."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while not holds(page := self.scrape()):
            assert self.process.poll() is None, f"it has ended:\n{self.log}"
            assert time.monotonic() < give_up_at, f"not in {GIVE_UP_S} s:\n{page.text}\n{self.log}"
            time.sleep(0.02)
        return page

    def step(self) -> Page:
        """Return a page of what was used up to a moment after this was called; for ``stepping``."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at:
            # Only a scrape of old figures has the time since then measured.
            time.sleep(max(0.0, self._stale_at - time.monotonic()))
            seen, page = self._seen, self.scrape()
            if page.intervals > seen:
                return page
            # The host was too busy to answer in time. The interval that was asked for ends later:
            # let it, so that it does not pass for the one of the next question.
            time.sleep(SETTLE_S)
            self.scrape()
        raise AssertionError(f"no interval has ended in {GIVE_UP_S} s:\n{self.log}")

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, wait for its end, and return its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(GIVE_UP_S)

    def kernel_objects(self) -> set[tuple[str, int]]:
        """Return the BPF programs, maps and links that it holds, by kind and id."""
        found = set()
        for info in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # A descriptor that was closed since.
                for kind, number in re.findall(
                    r"^(prog|map|link)_id:\s*(\d+)$", info.read_text(), re.MULTILINE
                ):
                    found.add((kind, int(number)))
        return found

    def _started_line(self) -> str:
        give_up_at = time.monotonic() + GIVE_UP_S
        while True:
            for line in self.log.splitlines(keepends=True):
                if "started: " in line and line.endswith("\n"):
                    return line.strip()
            assert self.process.poll() is None, f"it has ended:\n{self.log}"
            assert time.monotonic() < give_up_at, f"it has not started:\n{self.log}"
            time.sleep(0.01)


@contextmanager
def running(
    folder: Path,
    *arguments: str,
    config: str = "",
    wrapper: tuple[str, ...] = (),
    place: tuple[str, ...] = ANY_PORT,
) -> Iterator[Run]:
    """Run with *arguments* and the text of a configuration file, behind *wrapper* if any.

    Serves on a free port of the loopback unless *place* says otherwise. *folder* takes its
    files. It is killed in the end, where the test has not ended it.
    """
    number = len(list(folder.glob("run-*.log")))
    log_file = folder / f"run-{number}.log"
    command = [*wrapper, *COMMAND, *place, *arguments, *_config_flag(folder, config)]
    with log_file.open("wb") as log, (folder / f"run-{number}.out").open("wb") as out:
        # No terminal, wherever the tests are started.
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=null, stdout=out, stderr=log)
    try:
        yield Run(process, log_file)
    finally:
        process.kill()
        process.wait()


@contextmanager
def stepping(
    folder: Path, *arguments: str, config: str = "", wrapper: tuple[str, ...] = ()
) -> Iterator[Run]:
    """Run as ``running`` does, with intervals that the test ends by ``Run.step``.

    Ended processes are all listed, whatever they used.
    """
    text = STEP_CONFIG + config
    with running(folder, *STEPS, *arguments, config=text, wrapper=wrapper) as run:
        run.step()
        yield run


def in_container(folder: Path) -> tuple[str, ...]:
    """Return a wrapper that runs in a container, see ``in_container.py``."""
    folder.mkdir()
    program = Path(__file__).with_name("in_container.py")
    return ("unshare", "--mount", sys.executable, str(program), str(folder))


def refused(
    *arguments: str, wrapper: tuple[str, ...] = (), command: tuple[str, ...] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run with *arguments* until it ends by itself; a run that goes on fails the test."""
    return subprocess.run(
        [*wrapper, *command, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )


def page_of(text: str, *, is_openmetrics: bool = False) -> Page:
    """Parse a page as Prometheus's own client library does; what is malformed raises."""
    parse = openmetrics.text_string_to_metric_families if is_openmetrics else None
    families = (parse or text_string_to_metric_families)(text)
    return Page(text, tuple(sample for family in families for sample in family.samples))


def assert_conserved(page: Page) -> None:
    """Hold the law of conservation against one page, in every zone."""
    for zone in page.zones():
        placed_j = page.total("kepler_process_cpu_joules_total", zone=zone) + page.total(
            "kepler_ebpf_unattributed_joules_total", zone=zone
        )
        active_j = page.total("kepler_node_cpu_active_joules_total", zone=zone)
        assert placed_j == pytest.approx(active_j, rel=1e-9)


def in_kernel(kind: str) -> dict[int, str]:
    """Return the name of every BPF program, map or link there is, by id."""
    done = subprocess.run(
        ["bpftool", "-j", kind, "list"], capture_output=True, text=True, check=True
    )
    return {each["id"]: each.get("name", "") for each in json.loads(done.stdout or "[]")}


def _config_flag(folder: Path, text: str) -> tuple[str, ...]:
    if not text:
        return ()
    path = folder / f"config-{len(list(folder.glob('config-*.yaml')))}.yaml"
    path.write_text(text)
    return ("--config.file", str(path))
