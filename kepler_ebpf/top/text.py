"""The rows of an interval as a table for people, as a line of JSON, and as lines of CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from kepler_ebpf.exporters.workload_text import clean
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.top.frame import Frame
from kepler_ebpf.top.query import Picture, Query, Row, picture, title

HEADER = f"{'WATTS':>9} {'JOULES':>10} {'CPU %':>6}  STATE    "

LEAST_W = 1e-6
"""A sum that is off by more than this, and by this part of the whole, is said to be off."""


# --- for people -------------------------------------------------------------------------------


def table(frame: Frame, query: Query) -> str:
    """Return the rows of a frame as lines of text; a name that is long is not cut."""
    found = picture(frame, query)
    lines = [heading(frame), HEADER + plural(query.view).upper()]
    lines += [f"{row_line(frame, found, row)}{title(row.labels)}" for row in found.rows]
    return "\n".join([*lines, sums(found, query.view)]) + "\n"


def heading(frame: Frame) -> str:
    """Return the moment, the meter and whether it measures, and how busy the CPUs are."""
    kind = "ESTIMATE by CPU time" if frame.is_estimate else "measured"
    at = time.strftime("%H:%M:%S", time.localtime(frame.at_s))
    busy = f"CPU busy {100 * frame.usage_ratio:.0f} %"
    return f"{at}  interval {frame.interval_s:.2f} s  {busy}  meter {frame.meter} ({kind})"


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
        f"{len(found.rows)} rows {found.shown_w:.3f}",
        f"{found.others} others {found.other_w:.3f}",
    ]
    if view != "process":
        parts.append(f"in no {view} {found.outside_w:.3f}")
    parts += [f"no owner {found.unattributed_w:.3f}", f"idle {found.idle_w:.3f}"]
    is_off = abs(found.off_w) > LEAST_W * max(1.0, found.meter_w)
    off = f" (off by {found.off_w:.6f})" if is_off else ""
    return f"{found.zone} {found.meter_w:.3f} W = {' + '.join(parts)}{off}"


def plural(view: str) -> str:
    """Return the word for many of a view."""
    level = WORKLOAD_LEVELS.get(view)
    return level.plural if level else f"{view}s"


# --- for programs -----------------------------------------------------------------------------


def json_line(frame: Frame, query: Query) -> str:
    """Return the rows of a frame as one JSON object in one line of ASCII.

    Watts are null for a zone that could not be read. The figures of "zone" add up to its "watts".
    """
    found = picture(frame, query)
    record = {
        "at_s": frame.at_s,
        "interval_s": frame.interval_s,
        "meter": frame.meter,
        "estimate": frame.is_estimate,
        "usage_ratio": frame.usage_ratio,
        "view": query.view,
        "sort": query.sort,
        "zone": {
            "kind": found.zone,
            "watts": found.meter_w,
            **(dict.fromkeys(_PARTS) if found.meter_w is None else _parts(found)),
        },
        "other_rows": found.others,
        "rows": [_record(frame, row) for row in found.rows],
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


_PARTS = ("rows_watts", "other_rows_watts", "outside_watts", "no_owner_watts", "idle_watts")


def _parts(found: Picture) -> dict[str, float]:
    watts = (
        found.shown_w,
        found.other_w,
        found.outside_w,
        found.unattributed_w,
        found.idle_w,
    )
    return dict(zip(_PARTS, watts, strict=True))


def _record(frame: Frame, row: Row) -> dict[str, Any]:
    watts = dict(zip(frame.kinds, row.watts, strict=True))
    return {
        **_labels(row.labels),
        "state": row.state,
        "watts": {k: None if k in frame.unread_kinds else w for k, w in watts.items()},
        "joules": dict(zip(frame.kinds, row.joules, strict=True)),
        "cpu_seconds": row.cpu_s,
    }


def _labels(labels: Any) -> dict[str, Any]:
    names: dict[str, Any]
    if isinstance(labels, CgroupName):
        names = {"path": labels.path, "container_id": labels.container_id, "pod_id": labels.pod_id}
    else:
        names = {field.name: getattr(labels, field.name) for field in fields(labels)}
    return {name: clean(v) if isinstance(v, str) else v for name, v in names.items()}


CSV_HEADER = "at_s,interval_s,view,row,name,state,zone,watts,joules,cpu_seconds,meter,estimate\n"


def csv_lines(frame: Frame, query: Query) -> str:
    """Return a line for each row, and one for each other part of the meter; "row" tells which."""
    found, text = picture(frame, query), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row, name, state, *figures in _csv_rows(frame, found):
        shown = ["" if figure is None else figure for figure in figures]
        line = (frame.at_s, frame.interval_s, query.view, row, name, state, found.zone, *shown)
        writer.writerow((*line, frame.meter, int(frame.is_estimate)))
    return text.getvalue()


def _csv_rows(frame: Frame, found: Picture) -> Iterator[tuple[str | float | None, ...]]:
    index = frame.kinds.index(found.zone) if found.zone in frame.kinds else None
    for row in found.rows:
        watts = None if index is None or found.meter_w is None else row.watts[index]
        joules = None if index is None else row.joules[index]
        name = clean(title(row.labels)).strip()
        yield "workload", name, row.state, watts, joules, row.cpu_s
    if found.meter_w is not None:
        for name, watts in _parts(found).items():
            if name != "rows_watts":
                yield name.removesuffix("_watts"), "", "", watts, None, None
