"""What keys make of the screen, whatever comes and goes meanwhile."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import Row, process
from top_frames import closed

from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.query import Query
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.top.history import MAX_FRAMES, MAX_ROWS, History
from kepler_ebpf.top.screen import ASCII_BARS, Screen, sparkline
from kepler_ebpf.top.terminal import keys_of

KEYS = (
    *"qjkgGtTps v123456zof/?hx*",
    *("enter", "escape", "backspace", "home", "end"),
    *("up", "down", "left", "right", "page up", "page down"),
)


def frame(watts: dict[int, float], at_s: float = 0.0) -> Frame:
    """Return an interval in which processes, by pid, drew so much of each other."""
    rows = [Row(process(pid, f"task-{pid}"), ran_uj=(each, 0.0)) for pid, each in watts.items()]
    return replace(frame_of(closed(rows)), at_s=at_s)


def screen(*frames: Frame) -> Screen:
    """Return the screen of a terminal that has seen *frames*."""
    shown = Screen(Query(), lambda: None, is_utf8=False)
    for each in frames:
        shown.history.add(each)
    return shown


def chosen(shown: Screen, columns=80, height=24) -> str:
    """Return the chosen line."""
    return next(line for line in shown.lines(columns, height) if ">" in line and "task" in line)


def press(shown: Screen, *keys: str) -> None:
    """Press keys, each after a look at the screen."""
    for key in keys:
        shown.lines(80, 24)
        shown.press(key)


def test_the_choice_stays_with_the_row():
    """A row that was chosen is the chosen one wherever it moves, and its neighbour when it ends."""
    shown = screen(frame({1: 9.0, 2: 5.0, 3: 1.0}))
    press(shown, "down")
    assert "task-2" in chosen(shown)
    shown.history.add(frame({1: 9.0, 2: 0.5, 3: 1.0}))
    assert "task-2" in chosen(shown)
    shown.history.add(frame({1: 9.0, 3: 1.0}))
    assert "task-3" in chosen(shown)


def test_the_choice_is_on_the_screen():
    """A chosen row that moves beyond the screen takes the screen with it."""
    many = {pid: 200.0 - pid for pid in range(1, 101)}
    shown = screen(frame(many))
    assert "task-1" in chosen(shown)
    shown.history.add(frame({**many, 1: 0.01}))
    assert "task-1" in chosen(shown)
    press(shown, "home")
    assert "task-2" in chosen(shown)
    press(shown, "end", "page up")
    assert "task-" in chosen(shown)


def test_pause_and_step():
    """Steps hold an earlier interval, whatever comes; p goes on with the newest."""
    shown = screen(*(frame({n: 1.0}, at_s=float(n)) for n in range(1, 6)))
    press(shown, "t", "left")
    assert "task-3" in chosen(shown)
    shown.history.add(frame({6: 1.0}, at_s=6.0))
    assert "task-3" in chosen(shown)
    assert "PAUSED 3 s ago" in shown.lines(80, 24)[0]
    press(shown, "T")
    assert "task-4" in chosen(shown)
    press(shown, "p")
    assert "task-6" in chosen(shown)


def test_history_is_bounded():
    """However long it runs, it keeps so many intervals, and so many rows of each."""
    history = History()
    for second in range(MAX_FRAMES + 10):
        history.add(frame({pid: 1.0 + pid for pid in range(1, 150)}, at_s=float(second)))
    history.step(-10 * MAX_FRAMES)
    assert history.shown
    assert history.shown.at_s == 10.0
    assert len(history.shown.views["process"].labels) == MAX_ROWS


@given(st.lists(st.sampled_from(KEYS), max_size=25), st.integers(1, 130), st.integers(1, 50))
def test_any_keys_at_any_size(keys, columns, height):
    """No keys in no order break the screen; it never has more than its lines and columns."""
    shown = screen(frame({1: 9.0, 2: 5.0}, 1.0), frame({2: 1.0, 3: 2.0}, 2.0))
    for key in keys:
        shown.press(key)
        lines = shown.lines(columns, height)
        assert len(lines) <= height
        plain = (line.replace("\x1b[1m", "").replace("\x1b[7m", "") for line in lines)
        assert all(len(line) <= columns for line in plain)


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("\x1b[A\x1bOBq", ["up", "down", "q"]),
        ("\x1b", ["escape"]),
        ("\x1b[5~\x1b[1;5C", ["page up"]),
        ("\x1b[", []),
        ("a\x00\x7f\r", ["a", "backspace", "enter"]),
    ],
)
def test_keys(sent, keys):
    """What terminals send is known, and what is not known does nothing."""
    assert keys_of(sent) == keys


@given(st.text(max_size=30))
def test_no_text_breaks_the_keys(sent):
    """Whatever is pasted is read to its end."""
    assert len(keys_of(sent)) <= len(sent)


def test_sparkline():
    """The highest has the highest bar, 0 none."""
    assert sparkline([0.0, 1.0, 2.0], ASCII_BARS) == " =@"
    assert sparkline([], ASCII_BARS) == ""
