"""Ctrl-C and its like while commands are run repeatedly: the runs that are whole are kept."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from running import CHECKOUT, GIVE_UP_S

COMMAND = (sys.executable, "-m", "kepler_ebpf")
CTRL_C = b"\x03"
BY_CTRL_C = 128 + signal.SIGINT
BRIEF = "sh -c '/bin/true; /bin/true; :'"
"""Of one task alone this kernel may hide all the time, and such a run is not compared."""


@pytest.fixture
def stuck_at(tmp_path):
    """Make shell texts that end at once, until they are run for the so-manieth time."""

    def text(count, name="marks"):
        marks = tmp_path / name
        is_early = f"[ $(wc -l <{marks}) -lt {count} ]"
        return f"echo >>{marks}; {is_early} || {{ echo READY; exec sleep 100; }}"

    return text


def interrupted(*arguments):
    """Run a verb on a terminal, and press Ctrl-C at each READY; its status and the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(CHECKOUT)
        os.execv(sys.executable, [*COMMAND, *arguments])  # noqa: S606 - in a terminal of its own
    screen, presses = b"", 0
    # The last process that has the terminal open ends the reading with an error.
    with suppress(OSError):
        while part := os.read(terminal, 65536):
            screen += part
            while presses < screen.count(b"READY\r\n"):
                os.write(terminal, CTRL_C)
                presses += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


# --- stat -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("-i",)], ids=str)
def test_interrupt_ends_the_repetition(flags, stuck_at):
    """One Ctrl-C is enough, and the run that it hit is in no figure."""
    status, screen = interrupted("stat", "-r", "5", *flags, "--", "sh", "-c", stuck_at(3))
    assert status == BY_CTRL_C
    assert "ended early: 2 of 5 runs are whole" in screen
    assert "2 runs of: sh" in screen


def test_command_may_take_its_time_to_end(stuck_at):
    """While a command lasts each Ctrl-C is its own: `stat` waits for it, and drops the run."""
    stubborn = "trap 'n=x$n; [ $n != xxx ] || exit 0; echo READY' INT; echo READY"
    script = stuck_at(2).replace(
        "echo READY; exec sleep 100", f"{stubborn}; while :; do sleep 0.1; done"
    )
    status, screen = interrupted("stat", "-r", "5", "--", "sh", "-c", script)
    assert status == BY_CTRL_C
    assert "1 of 5 runs are whole" in screen


@pytest.mark.parametrize(("flag", "whole"), [("--prepare", 2), ("--cleanup", 3)])
def test_interrupt_between_runs_keeps_them(flag, whole, stuck_at, tmp_path):
    """The runs before are written where they are wanted, and said to be fewer than planned."""
    path = tmp_path / "result"
    arguments = ("-r", "5", "--json", "-o", str(path), flag, stuck_at(3), "--", "true")
    status, screen = interrupted("stat", *arguments)
    result = json.loads(path.read_text())
    assert (status, result["exit_status"]) == (BY_CTRL_C, BY_CTRL_C)
    assert (len(result["runs"]), result["planned_runs"], result["cut"]) == (whole, 5, True)
    assert f"{whole} of 5 runs are whole" in screen


def test_interrupt_of_the_warm_up_leaves_nothing(stuck_at, tmp_path):
    """Without a whole run that is said, and a file of JSON can be read."""
    status, screen = interrupted("stat", "-r", "5", "--warmup", "2", "--", "sh", "-c", stuck_at(2))
    assert status == BY_CTRL_C
    assert "0 of 5 runs are whole" in screen
    path = tmp_path / "result"
    arguments = ("--warmup", "1", "--json", "-o", str(path), "--", "sh", "-c", stuck_at(1))
    assert interrupted("stat", *arguments)[0] == BY_CTRL_C
    result = json.loads(path.read_text())
    assert (result["runs"], result["cut"], result["exit_status"]) == ([], True, BY_CTRL_C)


def test_interrupt_of_the_only_run_is_the_command_s(tmp_path, stuck_at):
    """What a command alone does about Ctrl-C is its own, also with what is to be done after it."""
    script = f"trap 'exit 9' INT; {stuck_at(1).replace('exec sleep 100', 'sleep 100 & wait')}"
    after = tmp_path / "after"
    status, screen = interrupted("stat", "--cleanup", f"echo >{after}", "--", "sh", "-c", script)
    assert (status, after.exists()) == (9, True)
    assert "of the node's" in screen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_signal_to_the_group_ends_the_repetition(number, stuck_at, tmp_path):
    """Each signal that would end the program ends the runs, with the status that it stands for."""
    path = tmp_path / "result"
    arguments = ("-r", "4", "-i", "--json", "-o", str(path), "--", "sh", "-c", stuck_at(2))
    with subprocess.Popen(
        [*COMMAND, "stat", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"READY\n"
        os.killpg(process.pid, number)
        assert process.wait(GIVE_UP_S) == 128 + number
    assert len(json.loads(path.read_text())["runs"]) == 1


def test_signal_to_stat_alone_is_passed_on(stuck_at):
    """SIGTERM to `stat` ends the command and then the runs."""
    with subprocess.Popen(
        [*COMMAND, "stat", "-r", "4", "-i", "--prepare", stuck_at(2), "--", "true"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"READY\n"
        process.terminate()
        _, said = process.communicate(timeout=GIVE_UP_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"1 of 4 runs are whole" in said


def test_ignored_signals_end_nothing():
    """What the caller has had ignored is ignored by `stat` and its commands."""
    done = subprocess.run(
        [*COMMAND, "stat", "-r", "2", "--", "sh", "-c", "kill -INT $PPID; kill -INT $$; echo on"],
        cwd=CHECKOUT,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        timeout=GIVE_UP_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"on\non\n")


# --- compare ----------------------------------------------------------------------------------


def test_interrupted_pairs_are_judged(stuck_at):
    """The verdict is that of the whole pairs, and says so in its line."""
    text = stuck_at(8)
    status, screen = interrupted("compare", "-n", "5", "--shell", text, text)
    assert status == BY_CTRL_C
    assert "2 of 5 pairs)" in screen
    assert "interrupted" in screen


@pytest.mark.parametrize("flags", [(), ("--prepare",)], ids=str)
def test_interrupted_comparison_is_saved(flags, stuck_at):
    """In JSON the whole pairs are there, and that there are fewer than planned."""
    text = stuck_at(8)
    commands = (text, BRIEF, BRIEF) if flags else ("--shell", text, text)
    status, screen = interrupted("compare", "--json", "-n", "5", *flags, *commands)
    result = json.loads(screen[screen.index("{\r\n") :])
    assert (status, result["cut"]) == (BY_CTRL_C, True)
    assert result["verdict"] in {"different", "same", "cannot tell"}
    assert [len(result[name]["runs"]) for name in "ab"] == [2, 2]
    assert result["a"]["planned_runs"] == 5


def test_too_few_pairs_have_no_verdict(stuck_at):
    """One pair says nothing: it is not judged, and saved all the same."""
    text = stuck_at(5)
    status, screen = interrupted("compare", "-n", "5", "--shell", text, text)
    assert status == BY_CTRL_C
    assert "no verdict: interrupted after 1 of 5 pairs" in screen
    text = stuck_at(5, "others")
    screen = interrupted("compare", "--json", "-n", "5", "--shell", text, text)[1]
    result = json.loads(screen[screen.index("{\r\n") :])
    assert (result["verdict"], len(result["a"]["runs"])) == (None, 1)


def test_saved_results_that_are_cut_are_named(stuck_at, tmp_path):
    """A comparison of files says which one has fewer runs than planned."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    interrupted("stat", "-r", "5", "--json", "-o", str(cut), "--", "sh", "-c", stuck_at(4))
    for arguments in (
        ("stat", "-r", "3", "--json", "-o", str(whole), "--", *shlex.split(BRIEF)),
        ("compare", str(cut), str(whole)),
    ):
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
    assert "A ended early: 3 of 5 runs are whole." in done.stdout
    assert "B ended early" not in done.stdout
