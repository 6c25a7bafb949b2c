"""`kepler-ebpf top` on a terminal: a real one, with keys, signals and other sizes."""

import os
import signal
import sys
import termios
import time
from contextlib import closing

import pytest
from screens import ScreenRun

ENTER, LEAVE = ["?1049h"], ["?1049l"]
TOP = (sys.executable, "-m", "kepler_ebpf", "top", "--interval", "200ms", "--meter", "estimate")


def on_screen(*arguments, **options):
    """Run `top` in a terminal as long as the block."""
    return closing(ScreenRun([*TOP, *arguments], **options))


def assert_given_back(run) -> None:
    """The terminal is as it was: its settings, its screen and its cursor."""
    assert termios.tcgetattr(run.terminal) == run.before
    assert not run.is_full_screen
    assert run.has_cursor
    assert b"Traceback" not in run.raw


def test_fits_80_by_24():
    """Heading, sum, columns, rows and keys; no line is longer than the screen."""
    with on_screen() as run:
        run.until("WATTS")
        run.until("? help")
        lines = run.screen.splitlines()
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert "ESTIMATE" in lines[0]
        assert lines[1].startswith("package ")
        assert "off by" not in run.screen
        run.press("q")
        assert run.end() == 0
        assert_given_back(run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_give_the_terminal_back(number):
    """Whatever ends it, the terminal is as it was."""
    with on_screen() as run:
        run.until("WATTS")
        os.kill(run.pid, number)
        assert run.end() == 0
        assert_given_back(run)


def test_interrupt_key():
    """Ctrl-C ends it like a signal."""
    with on_screen() as run:
        run.until("WATTS")
        run.press("\x03")
        assert run.end() == 0
        assert_given_back(run)


def test_an_error_at_the_start_is_readable():
    """What fails is said on the ordinary screen."""
    with on_screen("--zone", "moon") as run:
        assert run.end() == 2
        assert b"there is no zone 'moon'" in run.raw
        assert termios.tcgetattr(run.terminal) == run.before


def test_stopped_and_continued():
    """After a stop all is written again, as the shell has used the terminal meanwhile."""
    with on_screen() as run:
        run.until("WATTS")
        os.kill(run.pid, signal.SIGSTOP)
        termios.tcsetattr(run.terminal, termios.TCSANOW, run.before)
        os.kill(run.pid, signal.SIGCONT)
        run.until_raw(ENTER * 2)
        run.until("WATTS")
        run.press("q")
        assert run.end() == 0
        assert_given_back(run)


def test_suspended():
    """Ctrl-Z gives the terminal back before the stop, and takes it again after it."""
    with on_screen() as run:
        run.until("WATTS")
        run.press("\x1a")
        run.until_raw(ENTER + LEAVE + ENTER)
        run.until("WATTS")
        run.press("q")
        assert run.end() == 0
        assert_given_back(run)


def test_other_sizes():
    """A change of the size is followed; too small a terminal is told so, and works again."""
    with on_screen(size=(120, 40)) as run:
        run.until("? help")
        assert len(run.screen.splitlines()) == 40
        run.resize(20, 5)
        run.until("at least")
        run.resize(40, 10)
        run.until("WATTS")
        assert max(map(len, run.screen.splitlines())) <= 40
        run.press("q")
        assert run.end() == 0


def test_keys():
    """Views, orders, filter, help, detail and pause."""
    with on_screen() as run:
        run.until("PROCESSES")
        run.press("2")
        run.until("CONTAINERS")
        run.until("in no container")
        run.press("v")
        run.until("VMS")
        run.press("1s")
        run.until("by joules")
        run.press("fpython")
        run.until("filter: python_")
        run.press("\r")
        run.until("[python]")
        run.press("\r")
        run.until("W of ")
        run.until("start_ns")
        run.press("\x1b")
        run.until("WATTS")
        run.press("?")
        run.until("choose a row")
        run.press("q")
        assert run.end() == 0
        assert_given_back(run)


def test_pause():
    """What is shown stays, goes back in time, and goes on."""
    with on_screen() as run:
        run.until("WATTS")
        time.sleep(1)
        run.press("p")
        run.until("PAUSED")
        run.press("\x1b[Dttt")
        run.until("PAUSED 1 s ago")
        run.press("p")
        run.until_without("PAUSED")
        run.press("q")
        assert run.end() == 0


def test_zoom_into_a_cgroup():
    """Z shows the processes of the chosen cgroup, and the tasks of one; Backspace goes back."""
    with on_screen("--view", "cgroup") as run:
        run.until(">  ")
        run.press("z")
        run.until("PROCESSES of ")
        run.press("z")
        run.until("TASKS of ")
        run.press("\x7f\x7f")
        run.until("CGROUPS")
        run.press("q")
        assert run.end() == 0


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_encodings(locale):
    """Without UTF-8 everything is ASCII."""
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with on_screen(**environment) as run:
        run.until(">  ")
        time.sleep(1)
        run.press("\r")
        run.until("W of ")
        run.press("q")
        assert run.end() == 0
        assert run.raw.isascii() == (locale == "C")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_lines(term):
    """Where there is no screen, each interval is printed as a table."""
    with on_screen(TERM=term) as run:
        run.until("PROCESSES")
        run.press("\x03")
        assert run.end() == 0
        assert b"\x1b" not in run.raw
