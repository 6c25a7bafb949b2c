"""What is on the screen: lines made of frames, and what keys do. Knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, replace
from functools import partial

from kepler_ebpf.config.moment import parse_moment
from kepler_ebpf.exporters.frame import CGROUP, TASK, VIEWS, Frame
from kepler_ebpf.exporters.query import Picture, Query, Row, identity, picture, position
from kepler_ebpf.exporters.tree import ROOT
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.top import text
from kepler_ebpf.top.flags import MAX_FILTER, SORTS
from kepler_ebpf.top.history import History
from kepler_ebpf.top.lines import ASCII_BARS, UTF8_BARS, cut, sparkline, wrapped

MIN_COLUMNS, MIN_LINES = 30, 8
BOLD, REVERSE = "\x1b[1m", "\x1b[7m"

HINT = "? help q quit s sort f filter v view z zoom o zone p pause J time"
ASKS = {"filter": "Enter keeps it, Esc clears it", "go to": "-30s, 5m ago, 14:03:20; Esc: stay"}
"""What can be typed, and what is said of it."""

HELP = """\
up, down, j, k, PgUp, PgDn, End   choose a row; the choice stays with it
Home       the first row, whichever it is
Enter      what is known of the row, and its last minutes
s          next order: watts, joules, cpu, name
v, 1 to 7  next view; process, container, vm, pod, unit, cgroup, task
Space      fold a cgroup with all below it, and unfold it
=          fold all cgroups, and unfold all
z          the processes of the chosen row, or the tasks of a process
Backspace  back from there
f, /       filter by a text, or a pattern of * and ?; Enter keeps, Esc clears it
o          next zone
p          pause, and go on
left, right, t, T   pause, and step back and forth in time
J, b       pause, and go to a time: -30s or +30s from here, 5m ago, 14:03:20
q, Ctrl-C  quit
Esc        back""".splitlines()


class Screen:
    """The state of what is shown. ``press`` changes it, ``lines`` renders it."""

    def __init__(self, query: Query, stop: Callable[[], None], *, is_utf8: bool) -> None:
        self.history = History()
        self._query = replace(query, top=None, folded=frozenset())
        self._stop = stop
        self._bars = UTF8_BARS if is_utf8 else ASCII_BARS
        self._selected: Hashable = None
        self._is_chosen = False
        self._at = self._skip = 0
        self._page = 1
        self._columns = self._sum_lines = 0
        self._row: Row | None = None
        self._count = 0
        self._pane = ""
        self._asked, self._typed, self._message = "", "", ""
        self._zooms: list[tuple[Query, Hashable]] = []
        self._keys: dict[str, Callable[[], None]] = {
            **dict.fromkeys(("up", "k"), lambda: self._move(-1)),
            **dict.fromkeys(("down", "j"), lambda: self._move(1)),
            "page up": lambda: self._move(-self._page),
            "page down": lambda: self._move(self._page),
            **dict.fromkeys(("home", "g"), lambda: self._show(self._query)),
            **dict.fromkeys(("end", "G"), lambda: self._move(self._count)),
            **dict.fromkeys(("left", "t"), lambda: self.history.step(-1)),
            **dict.fromkeys(("right", "T"), lambda: self.history.step(1)),
            "p": self.history.hold,
            "s": lambda: self._ask(sort=_next(SORTS, self._query.sort)),
            "v": lambda: self._look(_next(VIEWS, self._query.view)),
            **{str(n): partial(self._look, view) for n, view in enumerate(VIEWS, 1)},
            "o": self._next_zone,
            "z": self._zoom,
            "backspace": self._leave_zoom,
            " ": self._fold,
            "=": self._fold_all,
            "enter": lambda: self._open("" if self._pane else "detail"),
            **dict.fromkeys(("?", "h"), lambda: self._open("" if self._pane else "help")),
            "escape": self._back,
            **dict.fromkeys(("f", "/"), lambda: self._ask_for("filter", self._query.filter)),
            **dict.fromkeys(("J", "b"), lambda: self._ask_for("go to", "")),
            "q": stop,
        }

    # --- keys

    @property
    def is_typing(self) -> bool:
        """Whether keys are text that is typed."""
        return bool(self._asked)

    def press(self, key: str) -> None:
        """Do what *key* stands for; any other key does nothing."""
        self._message = ""
        if self._asked:
            self._type(key)
        elif key in self._keys:
            self._keys[key]()

    def _ask_for(self, what: str, typed: str) -> None:
        self._asked, self._typed = what, typed

    def _type(self, key: str) -> None:
        asked = self._asked
        if key in {"enter", "escape"}:
            self._asked = ""
        if key == "escape":
            self._typed = ""
        elif key == "backspace":
            self._typed = self._typed[:-1]
        elif len(key) == 1:
            self._typed = (self._typed + key)[:MAX_FILTER]
        if asked == "filter":
            self._ask(filter=self._typed)
        elif key == "enter":
            self._go_to(self._typed.strip())

    def _go_to(self, when: str) -> None:
        """Hold the interval of a time; one with a sign is counted from what is shown."""
        newest, shown = self.history.newest, self.history.shown
        if when and newest and shown:
            try:
                at_s = parse_moment(when, (shown if when[0] in "+-" else newest).at_s)
            except ValueError as error:
                self._message = f"{when}: want {error}"
            else:
                self.history.go_to(at_s)

    def _ask(self, **changes: str) -> None:
        self._query = replace(self._query, **changes)  # type: ignore[arg-type]

    def _look(self, view: str) -> None:
        self._zooms = []
        self._show(replace(self._query, view=view, within=None))

    def _show(self, query: Query, selected: Hashable = None) -> None:
        """Show what *query* finds, and follow *selected*; where it is None, show the first rows."""
        self._query, self._selected, self._at, self._skip = query, selected, 0, 0
        self._is_chosen = selected is not None

    def _move(self, by: int) -> None:
        self._at = max(0, min(self._at + by, self._count - 1))
        self._selected, self._is_chosen = None, True

    def _zoom(self) -> None:
        if self._row and self._query.view != TASK:
            self._zooms.append((self._query, self._selected))
            view = TASK if self._query.view == "process" else "process"
            self._show(replace(self._query, view=view, within=self._row.labels))

    def _leave_zoom(self) -> None:
        if self._zooms:
            before, selected = self._zooms.pop()
            self._show(replace(self._query, view=before.view, within=before.within), selected)

    def _fold(self) -> None:
        if self._row and self._query.is_tree:
            path = self._row.labels.title
            self._query = replace(self._query, folded=(self._query.folded or frozenset()) ^ {path})

    def _fold_all(self) -> None:
        if self._query.is_tree and (frame := self.history.shown):
            paths = (label.title for label in frame.views[CGROUP].labels)
            folded = frozenset() if self._query.folded else frozenset(paths) - {ROOT}
            self._query = replace(self._query, folded=folded)

    def _next_zone(self) -> None:
        if frame := self.history.shown:
            self._ask(zone=_next(frame.kinds, self._query.zone or frame.primary()))

    def _open(self, pane: str) -> None:
        self._pane = pane
        self._is_chosen |= pane == "detail"

    def _back(self) -> None:
        if self._pane:
            self._pane = ""
        elif self._query.filter:
            self._ask(filter="")
        else:
            self._leave_zoom()

    # --- lines

    def lines(self, columns: int, height: int) -> list[str]:
        """Return at most *height* lines of *columns* at most."""
        frame = self.history.shown
        if columns < MIN_COLUMNS or height < MIN_LINES:
            return [cut(f"{MIN_COLUMNS} x {MIN_LINES} at least; q quits", columns)]
        if frame is None:
            return [cut("the first interval has not ended yet; q quits", columns)]
        state = f"PAUSED {self.history.age_s:.0f} s ago  " if self.history.is_held else ""
        found, sums = self._summed(frame, columns, height)
        lines = [BOLD + cut(state + text.heading(frame), columns), *sums]
        panes = {"help": lambda: iter(HELP), "detail": lambda: self._detail(frame, found, columns)}
        content = panes[self._pane]() if self._pane else self._table(frame, found, columns)
        lines += [line if "\x1b" in line else cut(line, columns) for line in content]
        lines = lines[: height - 1]
        return [*lines, *[""] * (height - 1 - len(lines)), cut(self._status(), columns)]

    def _summed(self, frame: Frame, columns: int, height: int) -> tuple[Picture, list[str]]:
        """Return the rows and the sum, whose lines the rows lack: as many as it ever had."""
        if columns != self._columns:
            self._columns, self._sum_lines = columns, 1
        while True:
            found = self._picture(frame, max(height - 3 - self._sum_lines, 1))
            sums = wrapped(text.sums(found, self._query.view), columns)
            if len(sums) <= self._sum_lines:
                return found, [*sums, *[""] * (self._sum_lines - len(sums))]
            self._sum_lines = len(sums)

    def _picture(self, frame: Frame, body: int) -> Picture:
        """Return the rows on the screen, with the one that was chosen among them."""
        if self._is_chosen and self._selected is not None:
            at = position(frame, self._query, self._selected)
            self._at = self._at if at is None else at
        self._page = body
        found = self._rows(frame, body)
        self._count = found.found
        if self._at >= max(found.found, 1):
            self._at = max(found.found - 1, 0)
            found = self._rows(frame, body)
        self._row = found.rows[self._at - self._skip] if found.rows else None
        self._selected = identity(self._row.labels) if self._row else None
        return found

    def _rows(self, frame: Frame, body: int) -> Picture:
        self._skip = min(max(self._skip, self._at - body + 1), self._at)
        return picture(frame, replace(self._query, top=body, skip=self._skip))

    def _table(self, frame: Frame, found: Picture, columns: int) -> Iterator[str]:
        within, what = self._query.within, text.plural(self._query.view).upper()
        of = "" if within is None else f" of {harmless(within.title).strip()}"
        if self._query.is_tree:
            of = ", each with all below it"
        yield BOLD + cut(f" {text.HEADER}{what}{of}", columns)
        for row in found.rows:
            line = f"{text.row_line(frame, found, row)}{row.name}"
            is_chosen = row is self._row
            mark = REVERSE + cut(f">{line}", columns) if is_chosen else cut(f" {line}", columns)
            yield mark

    def _detail(self, frame: Frame, found: Picture, columns: int) -> Iterator[str]:
        if self._row is None:
            yield "no row is chosen"
            return
        row, labels = self._row, self._row.labels
        yield BOLD + cut(harmless(labels.title).strip(), columns)
        query = self._query
        watts = self.history.watts(
            query.view, identity(labels), found.zone, with_below=query.is_tree
        )
        shown = watts[-(columns - 2) :]
        yield f"{found.zone} W of {len(shown)} intervals: {min(shown):.3f} to {max(shown):.3f}"
        yield sparkline(shown, self._bars)
        yield ""
        for index, kind in enumerate(frame.kinds):
            yield f"{kind:<12} {row.watts[index]:.3f} W  {row.joules[index]:.3f} J since the start"
        yield f"{'CPU':<12} {row.cpu_s:.3f} s of {frame.interval_s:.3f} s, {row.state}"
        names = ("path", "pod_id") if isinstance(labels, CgroupName) else None
        for name in names or [field.name for field in fields(labels)]:
            yield f"{name:<16} {harmless(str(getattr(labels, name)))}"

    def _status(self) -> str:
        if self._asked:
            return f"{self._asked}: {self._typed}_   ({ASKS[self._asked]})"
        if self._message:
            return self._message
        kept = f"[{self._query.filter}] " if self._query.filter else ""
        fold = "space fold " if self._query.is_tree else ""
        return f"{kept}by {self._query.sort}  {fold}{HINT}"


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)] if word in words else words[0]
