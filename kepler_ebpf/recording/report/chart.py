"""A report as a picture: watts over time, and the joules of the highest rows."""

from __future__ import annotations

import io
import warnings
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import numpy as np

from kepler_ebpf.errors import SetupError, how_to_install
from kepler_ebpf.recording.report.stacked import MAX_ROWS, levels, runs, stacked
from kepler_ebpf.recording.report.text import heading, plural
from kepler_ebpf.recording.report.view import View, name_of

WIDTH_IN, HEIGHT_IN, DOTS_PER_IN = 10, 7, 110
MAX_NAME = 48


def require() -> None:
    """Raise SetupError where there is nothing to draw with."""
    if find_spec("matplotlib") is None:
        raise SetupError(
            "pictures need matplotlib, which is not installed here",
            f"{how_to_install('report')}; --format html needs none",
        )


def png(view: View) -> bytes:
    """Return the report as a PNG."""
    return _drawn(view, "png")


def svg(view: View) -> bytes:
    """Return the report as an SVG."""
    return _drawn(view, "svg")


def _drawn(view: View, form: str) -> bytes:
    from matplotlib import rc_context  # noqa: PLC0415  heavy, and for pictures alone
    from matplotlib.figure import Figure  # noqa: PLC0415

    made = io.BytesIO()
    # Names are strangers': a $ is no formula, and a character that no font has no warning.
    settings: Any = {"text.parse_math": False, "svg.fonttype": "none", "font.size": 9}
    with warnings.catch_warnings(), rc_context(settings):
        warnings.simplefilter("ignore")
        figure = Figure((WIDTH_IN, HEIGHT_IN), DOTS_PER_IN, layout="constrained")
        over_time, of_rows = figure.subplots(2, height_ratios=(3, 2))
        figure.suptitle("\n".join(heading(view)), fontsize=9)
        _draw_over_time(over_time, view)
        _draw_rows(of_rows, view)
        figure.savefig(made, format=form)
    return made.getvalue()


def _draw_over_time(axes: Any, view: View) -> None:
    found = stacked(view)
    edges = levels(found)
    for run in runs(found):
        times_s = np.append(found.begins_s[run], found.ends_s[run][-1:])
        times = [datetime.fromtimestamp(each) for each in times_s.tolist()]  # noqa: DTZ006  local
        # A step goes on to the time behind it.
        drawn = np.hstack((edges[:, run], edges[:, run][:, -1:]))
        for series, lower, upper in zip(found.series, drawn, drawn[1:], strict=False):
            axes.fill_between(times, lower, upper, step="post", color=series.color, linewidth=0)
    # Handles of our own: a label that begins with _ has none in the legend otherwise.
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [Patch(color=series.color) for series in found.series]
    names = [_short(series.name) for series in found.series]
    axes.legend(handles, names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.set_ylabel(f"{view.zone} W")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def _draw_rows(axes: Any, view: View) -> None:
    rows = view.rows[:MAX_ROWS][::-1]
    joules = [float(row.joules[view.column]) for row in rows]
    axes.barh(range(len(rows)), joules, color="#4e79a7")
    axes.set_yticks(range(len(rows)), [_short(name_of(row.title)) for row in rows])
    axes.set_xlabel(f"joules of {plural(view.report.by)}, zone {view.zone}")


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
