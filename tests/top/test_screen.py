"""What keys make of the screen, whatever comes and goes meanwhile."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import Row, process, view
from top_frames import closed

from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.query import Query
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.snapshot import CgroupsView
from kepler_ebpf.model.workloads import TaskLabels
from kepler_ebpf.top.history import MAX_FRAMES, MAX_ROWS, History
from kepler_ebpf.top.lines import ASCII_BARS, sparkline
from kepler_ebpf.top.screen import Screen
from kepler_ebpf.top.terminal import keys_of

KEYS = (
    *"qjkgGtTps v1234567zof/?hx*=Jb-9",
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


def in_cgroups() -> Frame:
    """Return an interval of processes in /a, /b and /b/c, the last of which has a second task."""
    paths, shares = ("/a", "/b", "/b/c"), (0.2, 0.3, 0.5)
    labels = [process(pid, f"task-{pid}") for pid in (1, 2, 3)]
    rows = [Row(each, ran_uj=(share, 0.0)) for each, share in zip(labels, shares, strict=True)]
    names_of = tuple(map(CgroupName, paths))
    whole = closed(rows)
    owned = whole.workloads["process"].ran_uj.tolist()
    cgroups = [Row(name, ran_uj=uj) for name, uj in zip(names_of, owned, strict=True)]
    tasks = [Row(TaskLabels(31, 1, "worker", 3, 1, "task-3"), ran_uj=owned[2])]
    return frame_of(replace(whole, cgroups=CgroupsView(view(cgroups), names_of), tasks=view(tasks)))


def names(shown: Screen) -> list[str]:
    """Return the names of the cgroups on the screen, without how deep they are."""
    found = (line.partition("running  ")[2].strip() for line in shown.lines(80, 24))
    return [name for name in found if name]


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


def test_without_a_choice_the_highest_row_is_on_the_screen():
    """Who has pressed nothing sees what uses most now, and Home returns to that."""
    many = {pid: 200.0 - pid for pid in range(1, 101)}
    shown = screen(frame(many))
    assert "task-1" in chosen(shown)
    shown.history.add(frame({**many, 1: 0.01}))
    assert "task-2" in chosen(shown)
    press(shown, "end", "home")
    shown.history.add(frame(many))
    assert "task-1" in chosen(shown)


def test_the_rows_begin_where_they_began():
    """A sum that needs fewer lines than the one before it moves no row."""
    shown = screen(frame({1: 100.0}))

    def line_of_header() -> int:
        return next(at for at, line in enumerate(shown.lines(82, 24)) if "WATTS" in line)

    before = line_of_header()
    shown.press("2")
    wrapped = line_of_header()
    assert wrapped > before
    shown.press("1")
    assert line_of_header() == wrapped


def test_the_choice_is_on_the_screen():
    """A chosen row that moves beyond the screen takes the screen with it."""
    many = {pid: 200.0 - pid for pid in range(1, 101)}
    shown = screen(frame(many))
    press(shown, "down", "up")
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


@pytest.mark.parametrize(
    ("when", "wanted"),
    [("-2s", 3), ("2s ago", 3), ("-1s", 4), ("+9s", 5), ("1h ago", 1), ("@4", 4), ("", 5)],
)
def test_go_to_a_time(when, wanted):
    """J holds the interval of a time, counted from what is shown, from now, or of the clock."""
    shown = screen(*(frame({n: 1.0}, at_s=float(n)) for n in range(1, 6)))
    press(shown, "J", *when, "enter")
    assert f"task-{wanted}" in chosen(shown)


def test_a_time_that_is_none():
    """What is no time is named, until the next key; what is shown stays."""
    shown = screen(frame({1: 1.0}))
    press(shown, "J", *"moon", "enter")
    assert "moon: want a time such as" in shown.lines(80, 24)[-1]
    press(shown, "x")
    assert "? help" in shown.lines(80, 24)[-1]
    press(shown, "J", *"-5s", "escape")
    assert not shown.history.is_held


def test_zoom_goes_deeper_and_back():
    """Of a cgroup its processes, of a process its tasks, and back to the row it came from."""
    shown = screen(in_cgroups())
    press(shown, "6", "down", "down", "z")
    assert "PROCESSES of /b/c" in "".join(shown.lines(80, 24))
    press(shown, "z")
    text = "".join(shown.lines(80, 24))
    assert "TASKS of 3 task-3" in text
    assert "31 worker of 3 task-3" in text
    press(shown, "backspace", "backspace")
    assert ">" in next(line for line in shown.lines(80, 24) if line.endswith(" c"))


def test_fold():
    """Space folds the chosen cgroup, = folds all: what is below is in its figures only."""
    shown = screen(in_cgroups())
    press(shown, "6")
    assert names(shown) == ["- /", "- b", "c", "a"]
    press(shown, "down", " ")
    assert names(shown) == ["- /", "+ b", "a"]
    assert "0 others 0.000" in shown.lines(80, 24)[1]
    press(shown, " ", "=")
    assert names(shown) == ["- /", "+ b", "a"]
    press(shown, "=")
    assert names(shown) == ["- /", "- b", "c", "a"]


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
