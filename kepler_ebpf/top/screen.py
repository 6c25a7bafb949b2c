"""What is on the screen: lines made of frames, and what keys do. Knows no terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, replace
from functools import partial

from kepler_ebpf.exporters.frame import VIEWS, Frame
from kepler_ebpf.exporters.query import Picture, Query, Row, identity, picture, position, title
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.top import text
from kepler_ebpf.top.flags import MAX_FILTER, SORTS
from kepler_ebpf.top.history import History

MIN_COLUMNS, MIN_LINES = 30, 8
BOLD, REVERSE = "\x1b[1m", "\x1b[7m"
UTF8_BARS, ASCII_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"

HINT = "q quit s sort f filter v view z zoom o zone p pause </> time ? help"

HELP = """\
up, down, j, k, PgUp, PgDn, Home, End   choose a row; the choice stays with it
Enter      what is known of the row, and its last minutes
s          next order: watts, joules, cpu, name
v, 1 to 6  next view; process, container, vm, pod, unit, cgroup
z          the processes of the chosen row; again, or Backspace: all
f, /       filter by a text, or a pattern of * and ?; Enter keeps, Esc clears it
o          next zone
p          pause, and go on
left, right, t, T   pause, and step back and forth in time
q, Ctrl-C  quit
Esc        back""".splitlines()


class Screen:
    """The state of what is shown. ``press`` changes it, ``lines`` renders it."""

    def __init__(self, query: Query, stop: Callable[[], None], *, is_utf8: bool) -> None:
        self.history = History()
        self._query = replace(query, top=None)
        self._stop = stop
        self._bars = UTF8_BARS if is_utf8 else ASCII_BARS
        self._selected: Hashable = None
        self._at = self._skip = 0
        self._page = 1
        self._row: Row | None = None
        self._count = 0
        self._pane = ""
        self._typed: str | None = None
        self._before_zoom = query.view
        self._keys: dict[str, Callable[[], None]] = {
            **dict.fromkeys(("up", "k"), lambda: self._move(-1)),
            **dict.fromkeys(("down", "j"), lambda: self._move(1)),
            "page up": lambda: self._move(-self._page),
            "page down": lambda: self._move(self._page),
            **dict.fromkeys(("home", "g"), lambda: self._move(-self._count)),
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
            "enter": lambda: self._open("" if self._pane else "detail"),
            **dict.fromkeys(("?", "h"), lambda: self._open("" if self._pane else "help")),
            "escape": self._back,
            **dict.fromkeys(("f", "/"), self._edit),
            "q": stop,
        }

    # --- keys

    @property
    def is_typing(self) -> bool:
        """Whether keys are the text of a filter."""
        return self._typed is not None

    def press(self, key: str) -> None:
        """Do what *key* stands for; any other key does nothing."""
        if self._typed is not None:
            self._type(key)
        elif key in self._keys:
            self._keys[key]()

    def _type(self, key: str) -> None:
        typed = self._typed or ""
        if key in {"enter", "escape"}:
            self._ask(filter=typed if key == "enter" else "")
            self._typed = None
        elif key == "backspace":
            self._typed = typed[:-1]
        elif len(key) == 1:
            self._typed = (typed + key)[:MAX_FILTER]
        if self._typed is not None:
            self._ask(filter=self._typed)

    def _edit(self) -> None:
        self._typed = self._query.filter

    def _ask(self, **changes: str) -> None:
        self._query = replace(self._query, **changes)  # type: ignore[arg-type]

    def _look(self, view: str) -> None:
        self._query = replace(self._query, view=view, within=None)
        self._selected, self._at, self._skip = None, 0, 0

    def _move(self, by: int) -> None:
        self._at = max(0, min(self._at + by, self._count - 1))
        self._selected = None

    def _zoom(self) -> None:
        if self._query.within is not None:
            self._leave_zoom()
        elif self._row and self._query.view != "process":
            self._before_zoom, within = self._query.view, self._row.labels
            self._look("process")
            self._query = replace(self._query, within=within)

    def _leave_zoom(self) -> None:
        if self._query.within is not None:
            self._look(self._before_zoom)

    def _next_zone(self) -> None:
        if frame := self.history.shown:
            self._ask(zone=_next(frame.kinds, self._query.zone or frame.primary()))

    def _open(self, pane: str) -> None:
        self._pane = pane

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
            return [_cut(f"{MIN_COLUMNS} x {MIN_LINES} at least; q quits", columns)]
        if frame is None:
            return [_cut("the first interval has not ended yet; q quits", columns)]
        state = f"PAUSED {self.history.age_s:.0f} s ago  " if self.history.is_held else ""
        found, sums = self._summed(frame, columns, height, 1)
        if len(sums) > 1:
            # The sum takes lines of the rows.
            found, sums = self._summed(frame, columns, height, len(sums))
        lines = [BOLD + _cut(state + text.heading(frame), columns), *sums]
        panes = {"help": lambda: iter(HELP), "detail": lambda: self._detail(frame, found, columns)}
        content = panes[self._pane]() if self._pane else self._table(frame, found, columns)
        lines += [line if "\x1b" in line else _cut(line, columns) for line in content]
        lines = lines[: height - 1]
        return [*lines, *[""] * (height - 1 - len(lines)), _cut(self._status(), columns)]

    def _summed(
        self, frame: Frame, columns: int, height: int, of_sums: int
    ) -> tuple[Picture, list[str]]:
        found = self._picture(frame, max(height - 3 - of_sums, 1))
        return found, _wrapped(text.sums(found, self._query.view), columns)

    def _picture(self, frame: Frame, body: int) -> Picture:
        """Return the rows on the screen, with the one that was chosen among them."""
        if self._selected is not None:
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
        within = "" if self._query.within is None else f" of {title(self._query.within).strip()}"
        yield BOLD + _cut(f" {text.HEADER}{text.plural(self._query.view).upper()}{within}", columns)
        for row in found.rows:
            line = f"{text.row_line(frame, found, row)}{title(row.labels)}"
            is_chosen = row is self._row
            mark = REVERSE + _cut(f">{line}", columns) if is_chosen else _cut(f" {line}", columns)
            yield mark

    def _detail(self, frame: Frame, found: Picture, columns: int) -> Iterator[str]:
        if self._row is None:
            yield "no row is chosen"
            return
        row, labels = self._row, self._row.labels
        yield BOLD + _cut(title(labels).strip(), columns)
        watts = self.history.watts(self._query.view, identity(labels), found.zone)
        shown = watts[-(columns - 2) :]
        yield f"{found.zone} W of {len(shown)} intervals: {min(shown):.3f} to {max(shown):.3f}"
        yield sparkline(shown, self._bars)
        yield ""
        for index, kind in enumerate(frame.kinds):
            yield f"{kind:<12} {row.watts[index]:.3f} W  {row.joules[index]:.3f} J since the start"
        yield f"{'CPU':<12} {row.cpu_s:.3f} s of {frame.interval_s:.3f} s, {row.state}"
        names = ("path", "pod_id") if isinstance(labels, CgroupName) else None
        for name in names or [field.name for field in fields(labels)]:
            value = str(getattr(labels, name))
            yield f"{name:<14} " + "".join(c if c.isprintable() else "?" for c in value)

    def _status(self) -> str:
        if self._typed is not None:
            return f"filter: {self._typed}_   (Enter keeps it, Esc clears it)"
        kept = f"[{self._query.filter}] " if self._query.filter else ""
        return f"{kept}by {self._query.sort}  {HINT}"


def sparkline(figures: list[float], bars: str) -> str:
    """Return a character for each figure, by its part of the highest."""
    highest = max(figures, default=0.0) or 1.0
    return "".join(bars[round(figure / highest * (len(bars) - 1))] for figure in figures)


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)] if word in words else words[0]


def _wrapped(line: str, columns: int) -> list[str]:
    """Break the sum before a part of it."""
    lines = [""]
    for part in line.replace(" + ", "\n + ").splitlines():
        if len(lines[-1]) + len(part) > columns and lines[-1]:
            lines.append("  ")
        lines[-1] += part
    return [_cut(each, columns) for each in lines]


def _cut(line: str, columns: int) -> str:
    """Return what of *line* fits; East Asian characters are two columns wide."""
    if line.isascii():
        return line[:columns]
    width = 0
    for at, char in enumerate(line):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > columns:
            return line[:at]
    return line
