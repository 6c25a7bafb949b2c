"""The viewers themselves read the files: pprof on the command line, speedscope in Chromium."""

import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import PATIENCE_MS, chromium
from hypothesis import given, settings
from playwright.sync_api import expect
from profiles import KINDS, Row, profile_of, profiles
from tools import tool

from kepler_ebpf.profile.formats.registry import render
from kepler_ebpf.profile.model import Frame, Origin, Process, Profile

CC1, MAKE = Process(11, 2, "cc1"), Process(12, 3, "make")
MAIN, PARSE = Frame("main", "/usr/bin/cc1"), Frame("parse", "/usr/lib/libparse.so")
FAULT = Frame("asm_exc_page_fault", "[kernel]", Origin.KERNEL)
ROWS = [
    Row(CC1, (MAIN, PARSE), (5e6, 1e5), cpu_ns=1e9, samples=60),
    Row(CC1, (MAIN, PARSE, FAULT), (1e6, 2e6), cpu_ns=4e9, samples=20),
    Row(MAKE, (Frame("[unsampled]", "", Origin.NONE),), (500_000.25, 0.0), cpu_ns=1e6, samples=0),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the files of these tests."""
    return tmp_path_factory.mktemp("viewers")


def pprof(folder: Path, profile: Profile, *arguments: str) -> str:
    """Return what pprof prints about a profile's package energy."""
    path = folder / "profile.pprof"
    path.write_bytes(render("pprof", profile, "package"))
    done = subprocess.run(
        [tool("pprof"), *arguments, "-symbolize=none", path],
        env={"HOME": str(folder), "PPROF_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pprof_shows_functions(folder: Path) -> None:
    """Own and cumulative microjoules of a function; the head says what they are."""
    page = pprof(folder, profile_of(ROWS, is_estimate=True), "-top")
    assert "Type: energy_uj" in page
    assert "6.500 J ESTIMATE (package) of make -j2" in page
    assert "Duration: 1s" in page
    assert re.search(r"^5000000\D.* 6000000\D.* parse", page, re.MULTILINE)
    assert re.search(r"^1000000\D.* 1000000\D.* asm_exc_page_fault", page, re.MULTILINE)


def test_pprof_shows_cpu_time_and_samples(folder: Path) -> None:
    """The other types are there, for comparison."""
    assert "of 5s total" in pprof(folder, profile_of(ROWS), "-top", "-sample_index=cpu")
    assert re.search(r"of 80\D", pprof(folder, profile_of(ROWS), "-top", "-sample_index=samples"))


def test_pprof_selects_a_process(folder: Path) -> None:
    """Programs and pids are labels: a process can be looked at alone."""
    page = pprof(folder, profile_of(ROWS), "-top", "-tagfocus=pid=11")
    assert re.search(r"accounting for 6000000\D", page)
    page = pprof(folder, profile_of(ROWS), "-top", "-tagfocus=comm=make")
    assert re.search(r"accounting for 500000\D", page)


@given(profile=profiles())
@settings(max_examples=12)
def test_pprof_adds_up(folder: Path, profile: Profile) -> None:
    """The samples that pprof reads are the energy of the profile, to the microjoule."""
    raw = pprof(folder, profile, "-raw")
    samples = raw.partition("energy_uj/microjoules[dflt]\n")[2].partition("\nLocations")[0]
    found = re.findall(r"^ +\d+ +\d+ +(\d+):", samples, re.MULTILINE)
    energy_uj = profile.rows.energy_uj[:, KINDS.index("package")]
    assert sum(map(int, found)) == round(float(energy_uj.sum()))


class Site(SimpleHTTPRequestHandler):
    """Serves speedscope's files."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def speedscope() -> Iterator[str]:
    """Serve the viewer on loopback."""
    folder = Path(tool("speedscope")).resolve().parents[1] / "dist" / "release"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_speedscope_shows_the_total(folder: Path, speedscope: str) -> None:
    """Each program with its millijoules, under a name that says what the numbers are."""
    path = folder / "profile.speedscope.json"
    path.write_bytes(render("speedscope", profile_of(ROWS), "package"))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(speedscope)
        page.set_input_files("input[type=file]", path)
        page.get_by_text("Sandwich").click()
        body = page.locator("body")
        expect(body).to_contain_text("package energy (mJ)")
        expect(body).to_contain_text(re.compile(r"6,000 \(92%\)\s*0 \(<0\.01%\)\s*cc1"))
        expect(body).to_contain_text(re.compile(r"6,000 \(92%\)\s*5,000 \(77%\)\s*parse"))
        expect(page).to_have_title(re.compile(r"6\.500 J \(package\) of make -j2"))
