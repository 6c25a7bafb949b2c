"""A report as one HTML page, which loads nothing and opens from a disk.

The chart and the table are there without scripts; a script filters, sorts and shows figures.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from kepler_ebpf.config.moment import moment_text
from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.recording.report.stacked import Series, Stacked, levels, runs, stacked
from kepler_ebpf.recording.report.text import heading, plural
from kepler_ebpf.recording.report.view import REST, View, name_of

TEMPLATE = Path(__file__).with_name("page.html")

MAX_ROWS = 1_000
"""Rows of the table where no number was asked for; the others are summed."""

LEFT, RIGHT, TOP, BOTTOM = 45.0, 955.0, 10.0, 270.0
"""The chart's place in a picture of 960 by 300."""

TICKS = 6


def html(view: View) -> str:
    """Return the page. Whatever names have in them is text on it."""
    view = View(view.report, view.source, view.zone, view.top or MAX_ROWS, by_step=False)
    found = stacked(view)
    scale = _Scale(found)
    parts = {
        "title": f"Energy by {view.report.by}",
        "what": plural(view.report.by),
        "hint": f"Mean watts; in the picture: those of a step of {view.report.step_s:g} s.",
    }
    given = {name: _text(part) for name, part in parts.items()} | {
        "facts": "".join(_facts(view, heading(view))),
        "chart": "".join((*scale.axes(), *scale.areas())),
        "legend": "".join(_legend(view, found)),
        "rows": "".join(_rows(view)),
        "rest": "".join(_rest(view)),
        "data": _data(scale, found),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda each: given[each[1]], TEMPLATE.read_text("utf-8"))


def _text(text: str) -> str:
    return escape(clean(text))


def _facts(view: View, facts: list[str]) -> Iterator[str]:
    if view.source.is_estimate:
        yield '<p class="warn">All energy is an estimate: nothing was measured.</p>'
    for problem in view.source.problems:
        yield f'<p class="warn">{_text(problem)}</p>'
    for fact in facts:
        yield f"<p>{_text(fact)}</p>"


def _legend(view: View, found: Stacked) -> Iterator[str]:
    lengths_s = np.array([step.length_s for step in view.report.steps])
    for series in found.series:
        mean = float(series.watts @ lengths_s / lengths_s.sum())
        name = _text(series.name)
        yield (
            f'<li><b style="background:{series.color}"></b>'
            f'<span title="{name}">{name}</span><i>{mean:z.3f}</i></li>'
        )


def _rows(view: View) -> Iterator[str]:
    for row in view.rows:
        yield _row(view, float(row.joules[view.column]), f"{row.cpu_s:.3f}", name_of(row.title))


def _rest(view: View) -> Iterator[str]:
    for part, joules in view.sums.rest.items():
        yield _row(view, joules, "", REST[part])
    yield _row(view, view.sums.energy_j, "", f"{view.zone}, all of it")


def _row(view: View, joules: float, cpu_s: str, name: str) -> str:
    share = 100 * joules / view.sums.energy_j if view.sums.energy_j else 0.0
    figures = (f"{joules:z.3f}", f"{joules / view.report.length_s:z.3f}", f"{share:z.1f}", cpu_s)
    return f"<tr>{''.join(f'<td>{each}' for each in figures)}<td>{_text(name)}</tr>\n"


def _data(scale: _Scale, found: Stacked) -> str:
    shown = {
        "x": [[round(scale.x(at_s), 2) for at_s in pair] for pair in _pairs(found)],
        "at": [f"{_clock(begin_s)} to {_clock(end_s)}" for begin_s, end_s in _pairs(found)],
        "watts": [[round(watts, 4) for watts in series.watts.tolist()] for series in found.series],
    }
    return json.dumps(shown).replace("<", "\\u003c")


def _pairs(found: Stacked) -> list[tuple[float, float]]:
    return list(zip(found.begins_s.tolist(), found.ends_s.tolist(), strict=True))


def _clock(unix_s: float) -> str:
    part = f"{unix_s % 1:.1f}".removeprefix("0") if unix_s % 1 else ""
    return moment_text(unix_s) + part


class _Scale:
    """Where times and watts are in the picture."""

    def __init__(self, found: Stacked) -> None:
        self._found, self._edges = found, levels(found)
        self._began_s, self._ended_s = float(found.begins_s[0]), float(found.ends_s[-1])
        self._highest_w = max(float(self._edges[-1].max()), 1e-9)

    def x(self, at_s: float) -> float:
        return LEFT + (at_s - self._began_s) / (self._ended_s - self._began_s) * (RIGHT - LEFT)

    def y(self, watts: float) -> float:
        return BOTTOM - watts / self._highest_w * (BOTTOM - TOP)

    def areas(self) -> Iterator[str]:
        for number, series in enumerate(self._found.series):
            path = "".join(self._area(number, run) for run in runs(self._found))
            yield self._path(series, path)

    def axes(self) -> Iterator[str]:
        """Lines of the watts, at 1, 2 or 5 of a power of ten, and the times."""
        magnitude = 10.0 ** np.floor(np.log10(self._highest_w / TICKS))
        steps_w = (by * magnitude for by in (1, 2, 5, 10))
        step_w = next(each for each in steps_w if self._highest_w / each <= TICKS)
        for number in range(int(self._highest_w / step_w) + 1):
            y = self.y(number * step_w)
            yield f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            place = f'x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end"'
            yield f"<text {place}>{number * step_w:g} W</text>"
        for number in range(TICKS):
            part = number / (TICKS - 1)
            at_s = self._began_s + part * (self._ended_s - self._began_s)
            anchor = ("start", "middle", "end")[(part > 0) + (part == 1)]
            shown = time.strftime("%d %b %H:%M:%S", time.localtime(at_s))
            if self._ended_s - self._began_s < TICKS:
                shown += f".{int(at_s % 1 * 10)}"
            yield f'<text x="{self.x(at_s):.1f}" y="290" text-anchor="{anchor}">{shown}</text>'

    def _area(self, number: int, run: slice) -> str:
        """Return the path along the upper edge of a series, and back along the lower one."""
        lower, upper = self._edges[number, run].repeat(2), self._edges[number + 1, run].repeat(2)
        times_s = np.array(_pairs(self._found)[run]).ravel().tolist()
        there = list(zip(times_s, upper.tolist(), strict=True))
        back = list(zip(times_s, lower.tolist(), strict=True))[::-1]
        return f"M{'L'.join(f'{self.x(at_s):.1f} {self.y(w):.1f}' for at_s, w in there + back)}Z"

    def _path(self, series: Series, path: str) -> str:
        return f'<path fill="{series.color}" d="{path}"><title>{_text(series.name)}</title></path>'
