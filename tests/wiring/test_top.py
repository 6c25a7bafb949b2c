"""`kepler-ebpf top` as its users have it: printed once, always, and to readers that leave."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from powercap import CpuModel, PowercapTree, driven, host_busy_s
from running import CHECKOUT, GIVE_UP_S

TOP = (sys.executable, "-m", "kepler_ebpf", "top")
FAST = ("--interval", "300ms")
BUSY = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"


def top(*arguments):
    """Run `top` until it ends."""
    return subprocess.run(
        [*TOP, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )


@contextmanager
def batch(*arguments):
    """Run `top --batch` as long as the block."""
    command = [*TOP, "--batch", *FAST, *arguments]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_once_is_one_interval_that_adds_up():
    """The rows, with the sum, are printed once; an estimate is labelled."""
    done = top("--once", *FAST, "--top", "3", "--meter", "estimate")
    assert (done.returncode, done.stderr) == (0, "")
    heading, columns, *rows, sums = done.stdout.splitlines()
    assert "ESTIMATE" in heading
    assert columns.split()[:2] == ["WATTS", "JOULES"]
    assert 1 <= len(rows) <= 3
    assert sums.startswith("package ")
    assert "off by" not in sums


@pytest.mark.parametrize("view", ["process", "container", "pod", "vm", "unit", "cgroup", "task"])
def test_each_view_adds_up(view):
    """Whatever the rows are, they and the rest are the meter's watts."""
    done = top("--batch", "-n", "2", *FAST, "--view", view, "--top", "2")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["view"] for record in records] == [view, view]
    for record in records:
        zone = record["zone"]
        parts = [watts for name, watts in zone.items() if name.endswith("_watts")]
        assert sum(parts) == pytest.approx(zone["watts"], rel=1e-9)
        assert min(parts) >= -1e-9
        assert len(record["rows"]) <= 2


def test_a_brief_process_is_a_row(tmp_path):
    """A process that came and went within one interval is shown with its energy."""
    brief = tmp_path / "brief-task"
    shutil.copy("/bin/dash", brief)
    with batch("--filter", "brief-task") as process:
        process.stdout.readline()
        subprocess.run([brief, "-c", BUSY], check=True)
        lines = map(json.loads, process.stdout)
        rows = (row for line in lines for row in line["rows"])
        row = next(row for row in rows if row["state"] == "ended")
    assert row["comm"] == "brief-task"
    assert row["watts"]["package"] > 0
    assert row["cpu_seconds"] > 0


def test_measured_zones(tmp_path):
    """With energy counters each zone can be chosen, and nothing is called an estimate."""
    (tmp_path / "devices/system").mkdir(parents=True)
    (tmp_path / "devices/system/cpu").symlink_to("/sys/devices/system/cpu")
    tree = PowercapTree(tmp_path, "single_socket")
    options = ("--batch", "-n", "2", *FAST, "--format", "csv", "--host.sysfs", str(tree.sysfs))
    with driven(tree, CpuModel(5.0, 20.0, host_busy_s)):
        done = top(*options, "--zone", "dram")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["zone"] for row in rows} == {"dram"}
    assert {(row["meter"], row["estimate"]) for row in rows} == {("rapl", "0")}
    assert {row["row"] for row in rows} == {
        *("workload", "other_rows", "outside", "no_owner", "idle")
    }
    assert len({row["at_s"] for row in rows}) == 2


def test_a_signal_ends_it():
    """SIGTERM and Ctrl-C end a batch with status 0, after whole lines."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with batch() as process:
            first = process.stdout.readline()
            process.send_signal(number)
            rest, errors = process.communicate(timeout=GIVE_UP_S)
        assert (process.returncode, errors) == (0, "")
        assert all(json.loads(line) for line in (first + rest).splitlines())


def test_a_pipe_that_closes_ends_it_quietly():
    """`top --batch | head -1` says nothing more."""
    with batch() as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(GIVE_UP_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--once", "--zone", "moon"), 2, "there is no zone 'moon' here"),
        (("--view", "moon"), 2, "'moon' is not one of"),
        (("--sort", "moon"), 2, "'moon' is not one of"),
        (("--once", "--batch"), 2, "--once prints one interval"),
        (("--batch", "-n", "0"), 2, "0 is not in the range"),
        (("--once", "--filter", "x" * 101), 2, "at most 100 are allowed"),
        (("--once", "--host.sysfs", "/nowhere"), 2, "/nowhere"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else None,
)
def test_bad_input_is_named(options, status, message):
    """What is wrong is said in a line, and nothing is printed."""
    done = top(*options)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_output_that_cannot_be_written_is_an_error():
    """A full disk has a message and a status of its own."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*TOP, "--once", *FAST],
            cwd=CHECKOUT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=GIVE_UP_S,
            check=False,
        )
    assert done.returncode == 3
    assert "cannot write to the standard output: No space left" in done.stderr
