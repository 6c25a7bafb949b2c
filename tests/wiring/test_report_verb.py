"""`kepler-ebpf report` as its users have it: on real recordings, terminals and pipes."""

import csv
import io
import os
import subprocess
import sys

import pytest
from running import CHECKOUT, GIVE_UP_S
from screens import ScreenRun

KEPLER = (sys.executable, "-m", "kepler_ebpf")


def run(*arguments, **options):
    """Run a verb to its end."""
    return subprocess.run(
        [*KEPLER, *map(str, arguments)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the path of a real recording of a command with children and threads, and its pid."""
    path = tmp_path_factory.mktemp("recording") / "r.arrows"
    script = (
        "import os, subprocess, sys, threading, time\n"
        "def work():\n"
        "    began = time.thread_time()\n"
        "    while time.thread_time() - began < 0.2: pass\n"
        "print(os.getpid(), flush=True)\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "[each.start() for each in threads]\n"
        "[each.join() for each in threads]\n"
        "subprocess.run(['sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'])\n"
    )
    done = run(
        *("record", "-o", path, "--interval", "50ms", "--meter", "estimate"),
        *("--", sys.executable, "-c", script),
    )
    assert done.returncode == 0, done.stderr
    return path, done.stdout.strip()


@pytest.fixture
def recording(recorded):
    """Return the path alone."""
    return recorded[0]


def table(*arguments):
    """Return the lines of the CSV of a report."""
    done = run("report", *arguments, "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_tasks_of_a_process(recorded):
    """Each thread has its own row; together they are what their process has."""
    path, pid = recorded
    tasks = [row for row in table(path, "--by", "task") if row["tgid"] == pid]
    assert len([row for row in tasks if float(row["cpu_seconds"]) > 0.15]) >= 2
    (process,) = (row for row in table(path) if row["pid"] == pid)
    assert process["exe"] == os.path.realpath(sys.executable)
    joules = sum(float(row["joules"]) for row in tasks)
    assert joules == pytest.approx(float(process["joules"]))


def test_every_table_has_the_same_sum(recording):
    """By whatever, the rows and the rest are the energy of the meter."""
    sums = [
        sum(float(row["joules"]) for row in table(recording, "--by", by))
        for by in ("process", "comm", "cgroup", "unit")
    ]
    assert sums == pytest.approx([sums[0]] * len(sums))


def test_nothing_but_the_report_in_a_pipe(recording):
    """There is no progress in a pipe, and no word on the standard error."""
    done = run("report", recording)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\r" not in done.stdout


def test_a_pipe_that_closes_ends_it_quietly(recording):
    """`report | true` says nothing."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [*KEPLER, "report", str(recording)], cwd=CHECKOUT, stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        _, errors = process.communicate(timeout=GIVE_UP_S)
    assert (process.returncode, errors) == (0, b"")


def test_a_full_disk_is_an_error(recording):
    """What cannot be written is named."""
    with open("/dev/full", "w") as full:  # noqa: PTH123  a device
        done = subprocess.run(
            [*KEPLER, "report", str(recording)],
            cwd=CHECKOUT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=GIVE_UP_S,
            check=False,
        )
    assert done.returncode == 3
    assert "cannot write to the standard output: No space left" in done.stderr


def test_on_a_terminal(recording):
    """A terminal sees how far it has read; a picture is not written to it."""
    shown = ScreenRun([*KEPLER, "report", str(recording)])
    try:
        shown.until("PROCESSES")
        assert shown.end() == 0
        assert b"read up to " in shown.raw
    finally:
        shown.close()
    refused = ScreenRun([*KEPLER, "report", str(recording), "--format", "png"])
    try:
        assert refused.end() == 2
        assert b"is not for a terminal" in refused.raw
    finally:
        refused.close()


def test_without_pyarrow_the_extra_is_named(recording, tmp_path):
    """Where the extra is not installed, the error says which to install."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError\n")
    done = run("report", recording, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 3
    assert "kepler-ebpf[record]" in done.stderr
