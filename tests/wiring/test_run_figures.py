"""The figures of a live `run`: the laws they obey, and what Prometheus makes of them."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_server import scraping, stored
from running import (
    OPENMETRICS,
    STEP_CONFIG,
    Page,
    Run,
    assert_conserved,
    running,
    stepping,
)
from workers import worker

SLOW = ("--interval", "1s", "--meter", "fake")
UNREFRESHED = STEP_CONFIG.replace("staleness: 100ms", "staleness: 1h")

# --- laws -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Page]]:
    """Pages of successive intervals with busy, sleeping, ended and short-lived processes."""
    folder = tmp_path_factory.mktemp("steps")
    with stepping(folder, "--meter", "fake") as run:
        pages = []
        for _ in range(3):
            with worker(folder, "comes-and-goes") as hog:
                hog.spin()
                pages.append(run.step())
            subprocess.run([folder / "comes-and-goes", "-c", ":"], check=True)
            pages.append(run.step())
        yield pages


def test_node_is_active_and_idle(steps: list[Page]) -> None:
    """What a zone drew is split in two, and the watts are split the same way."""
    for page in steps:
        for zone in page.zones():
            for unit in ("joules_total", "watts"):
                whole = page.total(f"kepler_node_cpu_{unit}", zone=zone)
                parts = [
                    page.total(f"kepler_node_cpu_{part}_{unit}", zone=zone)
                    for part in ("active", "idle")
                ]
                assert sum(parts) == pytest.approx(whole, rel=1e-9)
                assert min(parts) >= 0


def test_every_active_joule_has_one_place(steps: list[Page]) -> None:
    """Processes, retired ones and what has no owner add up to the node's active energy."""
    for page in steps:
        assert_conserved(page)
        assert page.total("kepler_ebpf_residual_ratio") <= 1e-9


def test_cpu_time_adds_up(steps: list[Page]) -> None:
    """Tasks, idle and lost time are the time that passed on every CPU."""
    for page in steps:
        assert page.total("kepler_ebpf_accounting_error_ratio") <= 1e-3
        assert 0 <= page.total("kepler_node_cpu_usage_ratio") <= 1


def test_no_total_falls(steps: list[Page]) -> None:
    """A counter that is on two pages is not lower on the later one."""
    for before, after in itertools.pairwise(steps):
        later = {(each.name, *sorted(each.labels.items())): each.value for each in after.samples}
        for each in before.samples:
            if each.name.endswith("_total"):
                key = (each.name, *sorted(each.labels.items()))
                assert later.get(key, each.value) >= each.value, key


def test_ended_process_stays_listed(steps: list[Page]) -> None:
    """With the threshold at 0 it shows as terminated, with its energy, on every later page."""
    ended = [page.find("kepler_process_cpu_joules_total", comm="comes-and-goes", zone="package",
                       state="terminated") for page in steps]  # fmt: skip
    # Odd pages have seen the end of one worker and of the short command after it.
    assert [len(found) for found in ended] == [0, 2, 2, 4, 4, 6]
    assert all(each.value > 0 for found in ended for each in found)


def test_short_process_has_its_name(steps: list[Page]) -> None:
    """One that lived for milliseconds is there by pid, comm and executable."""
    found = steps[-1].find("kepler_process_cpu_seconds_total", comm="comes-and-goes")
    assert len(found) == 6
    assert all(each.labels["exe"].endswith("/comes-and-goes") for each in found)
    assert all(0 < each.value < 1 for each in found)


def test_own_cost_is_a_consumer(steps: list[Page]) -> None:
    """The sampler's CPU time and joules are shown, and are part of the processes'."""
    page = steps[-1]
    assert page.total("kepler_ebpf_own_cpu_seconds_total") > 0
    for zone in page.zones():
        own_j = page.total("kepler_ebpf_own_joules_total", zone=zone)
        assert 0 < own_j < page.total("kepler_process_cpu_joules_total", zone=zone)


def has_processes(page: Page) -> bool:
    """Whether the page shows the energy of any process."""
    return bool(page.find("kepler_process_cpu_joules_total"))


def test_reading_changes_nothing(tmp_path: Path) -> None:
    """Two scrapes of one snapshot are the same but for its age, ended processes included."""
    with running(tmp_path, *SLOW, config=UNREFRESHED) as run:
        subprocess.run(["true"], check=True)
        run.until(lambda page: page.find("kepler_process_cpu_joules_total", state="terminated"))
        one, two = two_of_one_snapshot(run)
    assert without_age(one) == without_age(two)


def two_of_one_snapshot(run: Run) -> tuple[Page, Page]:
    """Scrape until two pages in a row show the same interval."""
    pages = [run.scrape(), run.scrape()]
    while pages[0].intervals != pages[1].intervals:
        pages = [run.scrape(), run.scrape()]
    return pages[0], pages[1]


def without_age(page: Page) -> list[str]:
    """Return the lines that do not tell the snapshot's age, which grows as it must."""
    return [line for line in page.text.splitlines() if "snapshot_age" not in line]


# --- what Prometheus makes of it --------------------------------------------------------------


def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    """Prometheus's own checker accepts a live page."""
    with running(tmp_path, *SLOW) as run:
        page = run.until(has_processes)
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_openmetrics_page_says_the_same(tmp_path: Path) -> None:
    """The stricter format passes its parser and has the same samples."""
    with running(tmp_path, *SLOW, config=UNREFRESHED) as run:
        run.until(has_processes)
        while True:
            plain, strict = run.scrape(), run.scrape(OPENMETRICS)
            if plain.intervals == strict.intervals:
                break
    assert strict.text.endswith("# EOF\n")
    assert without_ages(plain) == without_ages(strict)


def without_ages(page: Page) -> dict[tuple[str, ...], float]:
    """Return the samples by name and labels, but for the snapshot's age."""
    return {
        (each.name, str(sorted(each.labels.items()))): each.value
        for each in page.samples
        if "snapshot_age" not in each.name
    }


def test_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    """A Prometheus server, which asks for OpenMetrics, takes the page and its series."""
    with running(tmp_path, *SLOW) as run, scraping(run.address, tmp_path) as prometheus:
        found = stored(prometheus, "kepler_process_cpu_joules_total")
        up = stored(prometheus, "up")
    assert len(found) > 1
    assert [each["value"][1] for each in up] == ["1"]


# --- readers ------------------------------------------------------------------------------------


def test_no_reader_cuts_an_interval_short(tmp_path: Path) -> None:
    """Whoever reads, and whenever: watts are of a whole configured interval, joules of now."""

    def length_s(page: Page) -> float:
        return page.total("kepler_ebpf_interval_duration_seconds")

    config = STEP_CONFIG.replace("100ms", "20ms")
    with running(tmp_path, "--interval", "500ms", "--meter", "fake", config=config) as run:
        run.until(lambda page: length_s(page) > 0.45)
        pages = []
        for pause_s in (0.03, 0.11, 0.19, 0.28, 0.41) * 4:
            time.sleep(pause_s)
            pages.append(run.scrape())
    lengths_s = [length for length, _ in itertools.groupby(map(length_s, pages))]
    # The interval after a late tick is shorter by what the one before it is longer: the grid stays.
    assert all(now > 0.45 or last + now > 0.95 for last, now in itertools.pairwise(lengths_s))
    joules = list(
        itertools.pairwise(
            page.total("kepler_node_cpu_joules_total", zone="package") for page in pages
        )
    )
    assert all(before <= after for before, after in joules)
    # A busy host may not answer each reader in time.
    assert sum(before < after for before, after in joules) > len(joules) / 2
