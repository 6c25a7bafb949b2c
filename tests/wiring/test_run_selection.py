"""What a live `run` shows while the user's selection holds most of it back."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.samples import Sample
from running import Page, assert_conserved, refused, running

TOP_N = 5
PAGES = 30
BIRTHS = "while :; do /bin/true & i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; done"
"""Some 50 processes a second, with work of the shell in between."""

INTERVALS = ("--meter", "fake", "--interval", "100ms", "--terminated-retention", "1s")
CONFIG = "monitor: {minTerminatedEnergyThreshold: 0}\n"


@contextmanager
def births(count: int = 2) -> Iterator[None]:
    """Start shells that start short commands."""
    shells = [subprocess.Popen(["/bin/sh", "-c", BIRTHS]) for _ in range(count)]
    try:
        yield
    finally:
        for shell in shells:
            shell.kill()
            shell.wait()


def totals(page: Page) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every counter of a page by its name and its labels but the state."""
    return {
        (sample.name, frozenset(_stable(sample).items())): sample.value
        for sample in page.samples
        if sample.name.endswith("_total")
    }


def _stable(sample: Sample) -> dict[str, str]:
    return {name: value for name, value in sample.labels.items() if name != "state"}


def test_no_counter_falls_while_processes_are_born_and_end(tmp_path: Path) -> None:
    """Sample by sample, with few listed, on pages that add up."""
    with births(), running(tmp_path, *INTERVALS, f"--process-top-n={TOP_N}", config=CONFIG) as run:
        page = run.until(lambda page: page.intervals > 1)
        before = totals(page)
        for _ in range(PAGES):
            seen = page.intervals
            page = run.until(lambda page, seen=seen: page.intervals > seen)  # type: ignore[misc]
            now = totals(page)
            fallen = {key: (before[key], now[key]) for key in before.keys() & now.keys()}
            assert {key: pair for key, pair in fallen.items() if pair[1] < pair[0]} == {}
            assert_conserved(page)
            before = now
            rows = page.find("kepler_process_cpu_seconds_total")
            assert len([row for row in rows if row.labels["pid"] != "0"]) <= TOP_N


def test_names_and_cgroups_that_are_not_allowed_are_not_on_the_page(tmp_path: Path) -> None:
    """Only the program itself is, besides; what it leaves out is in [others]."""
    arguments = ("--allow-comm", "sh|nothing", "--deny-comm", "x.*")
    with births(1), running(tmp_path, *INTERVALS, *arguments) as run:
        name = "kepler_process_cpu_seconds_total"
        page = run.until(lambda page: page.find(name, comm="sh"))
        assert_conserved(page)
        listed = [row.labels for row in page.find(name) if row.labels["pid"] != "0"]
        assert {row["comm"] for row in listed if row["pid"] != str(run.process.pid)} == {"sh"}
        assert page.total(name, comm="[others]") > 0
        assert page.total("kepler_ebpf_own_joules_total") > 0


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--deny-comm", "("), "--deny-comm: '(' is not allowed"),
        (("--allow-cgroup", "(?=a)"), "invalid perl operator"),
        (("--deny-comm", "(a{1000}){1000}"), "invalid repetition"),
        (("--deny-namespace", "kube-.*"), "kube.enabled is off"),
        (("--process-top-n", "-1"), "0 (all) or a whole number from 1 to 1000000"),
        (("--process-min-joules", "10J"), "a number of joules"),
    ],
)
def test_a_selection_that_cannot_work_is_refused(arguments: tuple[str, ...], wanted: str) -> None:
    """At the start, with what is wrong; no pattern can take a long time."""
    ended = refused(*arguments)
    assert ended.returncode == 2
    assert wanted in ended.stderr
