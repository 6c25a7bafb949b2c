"""The rows of an interval as a table for people."""

from __future__ import annotations

import time

from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.query import Picture, Query, Row, picture
from kepler_ebpf.model.levels import WORKLOAD_LEVELS

HEADER = f"{'WATTS':>9} {'JOULES':>10} {'CPU %':>6}  STATE    "

LEAST_W = 1e-6
"""A sum that is off by more than this, and by this part of the whole, is said to be off."""


def table(frame: Frame, query: Query) -> str:
    """Return the rows of a frame as lines of text; a name that is long is not cut."""
    found = picture(frame, query)
    lines = [heading(frame), HEADER + plural(query.view).upper()]
    lines += [f"{row_line(frame, found, row)}{row.name}" for row in found.rows]
    return "\n".join([*lines, sums(found, query.view)]) + "\n"


def heading(frame: Frame) -> str:
    """Return the moment, the meter and whether it measures, and how busy the CPUs are."""
    kind = "ESTIMATE" if frame.is_estimate else "measured"
    at = time.strftime("%H:%M:%S", time.localtime(frame.at_s))
    busy = f"CPU busy {100 * frame.usage_ratio:.0f} %"
    # What stands last is cut on a narrow screen.
    return f"{at}  meter {frame.meter} ({kind})  {busy}  interval {frame.interval_s:.2f} s"


def row_line(frame: Frame, found: Picture, row: Row) -> str:
    """Return the figures of a row; its name follows."""
    figures = (f"{'-':>9}", f"{'-':>10}")
    if found.zone in frame.kinds:
        index = frame.kinds.index(found.zone)
        watts = "-" if found.meter_w is None else f"{row.watts[index]:.3f}"
        figures = (f"{watts:>9}", f"{row.joules[index]:>10.3f}")
    cpu = f"{100 * row.cpu_s / frame.interval_s:>6.1f}"
    return f"{' '.join(figures)} {cpu}  {row.state:<8} "


def sums(found: Picture, view: str) -> str:
    """Return the line that shows that the rows and the rest are what the meter has."""
    if found.meter_w is None:
        return f"{found.zone}: could not be read in this interval, or has counted nothing"
    parts = [
        f"{len(found.rows)} rows {found.shown_w:z.3f}",
        f"{found.others} others {found.other_w:z.3f}",
    ]
    if view not in {"process", "task"} or abs(found.outside_w) > LEAST_W:
        parts.append(f"in no {view} {found.outside_w:z.3f}")
    parts += [f"no owner {found.unattributed_w:z.3f}", f"idle {found.idle_w:z.3f}"]
    is_off = abs(found.off_w) > LEAST_W * max(1.0, found.meter_w)
    off = f" (off by {found.off_w:.6f})" if is_off else ""
    return f"{found.zone} {found.meter_w:.3f} W = {' + '.join(parts)}{off}"


def plural(view: str) -> str:
    """Return the word for many of a view."""
    level = WORKLOAD_LEVELS.get(view)
    return level.plural if level else f"{view}s"
