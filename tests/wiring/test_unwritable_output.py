"""Every verb, where its output has no room, is closed, or has nobody who reads it."""

import os
import shlex
import subprocess
import sys

import pytest
from recordings import batches_of, write
from running import CHECKOUT, GIVE_UP_S

from kepler_ebpf.stat.result import Result, Run, ZoneEnergy

KEPLER = shlex.join([sys.executable, "-m", "kepler_ebpf"])
MISSING, OWN_FAILURE = 3, 125
FULL = "cannot write to the standard output: No space left on device"
FAST = ("--interval", "50ms", "--meter", "fake")

PRINTING = {
    "compare": ("compare", "a.json", "a.json"),
    "check": ("check", "--web.listen-address", "127.0.0.1:0"),
    "events": ("events", "--timeout", "0.1"),
    "top": ("top", "--once", *FAST),
    "replay": ("replay", "r.arrows"),
    "report": ("report", "r.arrows"),
    "help": ("--help",),
    "version": ("--version",),
    "help of a verb": ("compare", "--help"),
}
"""What writes to the standard output, by its name."""


@pytest.fixture
def kepler(tmp_path):
    """Run the command in a shell, with redirections; a recording and a result lie there."""
    write(tmp_path / "r.arrows", batches_of(5, 2))
    zone = ZoneEnergy(1.0, None, 1.0, 1.0, 0.0, 0.0, mean_watts=1.0, peak_watts=1.0)
    run_of_a = Run(1.0, 1.0, tasks=1, switches=1, untracked_s=0.0, zones={"package": zone})
    result = Result(("a",), "a", (run_of_a, run_of_a), "rapl", estimate=False, host={})
    (tmp_path / "a.json").write_text(result.to_json())

    def run(arguments, redirection):
        return subprocess.run(
            [
                "bash",
                "-c",
                f"{KEPLER} {shlex.join(arguments)} {redirection}; exit ${{PIPESTATUS[0]}}",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=GIVE_UP_S,
            check=False,
        )

    return run


@pytest.mark.parametrize("name", PRINTING)
def test_full_disk_is_named_by_every_verb(kepler, name):
    """What could not be written is an error with a remedy, and a status that is documented."""
    done = kepler(PRINTING[name], ">/dev/full")
    error, hint = done.stderr.splitlines()[-2:]
    assert (done.returncode, error) == (MISSING, f"error: {FULL}")
    assert hint == "hint: redirect it to a file or a pipe that can be written"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["compare", "check", "events", "top", "replay", "help"])
def test_reader_that_has_gone_is_no_error(kepler, name):
    """The status is the same as with a reader, and nothing is said."""
    done = kepler(PRINTING[name], "> >(exec true)")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["check", "top"])
def test_closed_output_is_named(kepler, name):
    """A result that nobody can get is an error."""
    done = kepler(PRINTING[name], ">&-")
    assert done.returncode == MISSING
    assert "error: cannot write to the standard output: it is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_events_end_with_their_reader(kepler):
    """Also where there is nothing to write, nobody waits for them for ever."""
    done = kepler(("events", "--comm", "no-such-comm"), "| head -n 1")
    assert (done.returncode, done.stderr) == (0, "")


# --- verbs with a command ---------------------------------------------------------------------

SEVEN = ("--", "sh", "-c", "exit 7")


@pytest.mark.parametrize(
    ("arguments", "redirection", "where"),
    [
        (("stat", "-o", "/dev/full"), "", "/dev/full"),
        (("stat", "-I", "10", "-o", "/dev/full"), "", "/dev/full"),
        (("stat", "--log-fd", "3"), "3>/dev/full", "descriptor 3"),
        (("stat", "--log-fd", "3"), "3</dev/null", "descriptor 3"),
        (("profile", "-o", "/dev/full", "--format", "folded"), "", "/dev/full"),
        (("profile", "-o", "-", "--format", "folded"), ">/dev/full", "the standard output"),
    ],
    ids=str,
)
def test_result_that_cannot_be_written_is_a_failure_of_ours(kepler, arguments, redirection, where):
    """The command has run by then: the error has its status."""
    done = kepler((*arguments, *SEVEN), redirection)
    assert done.returncode == OWN_FAILURE
    assert f"error: cannot write to {where}: " in done.stderr
    assert "the command has run, and ended with status 7" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_result_for_a_full_standard_error_is_a_failure_of_ours(kepler):
    """Nothing can be said, but the status shows it."""
    assert kepler(("stat", *SEVEN), "2>/dev/full").returncode == OWN_FAILURE


@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [
        (("stat",), "2>&1 >/dev/null | true"),
        (("stat",), "2>&-"),
        (("stat", "--log-fd", "1"), "| true"),
        (("stat", "-I", "10", "-x,"), "2> >(exec true)"),
        (("profile", "-o", "-", "--format", "folded"), "| true"),
        (("profile", "-o", "x.svg"), "2>/dev/full"),
        (("profile", "-o", "x.svg"), "2>&-"),
    ],
    ids=str,
)
def test_status_is_the_command_s_where_nobody_reads(kepler, arguments, redirection):
    """A pager that was closed, and remarks that nobody wants, cost no status."""
    done = kepler((*arguments, *SEVEN), redirection)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_rows_end_with_their_reader(kepler):
    """What runs anyway is measured no longer than somebody reads of it."""
    done = kepler(("stat", "-I", "50", "--comm", "no-such-comm"), "2>&1 | head -n 1")
    assert done.returncode == 0
    assert "Traceback" not in done.stdout


def test_help_of_a_verb_with_a_command_has_its_status(kepler):
    """1 to 3 are the command's."""
    assert kepler(("stat", "--help"), ">/dev/full").returncode == OWN_FAILURE
