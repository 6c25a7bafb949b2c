"""/api/v1: a snapshot and the last minutes in JSON, as far as a query wants them.

Its schema is in API.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import numpy as np

from kepler_ebpf.exporters.exported import exported
from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.history import MAX_POINTS, History, Points
from kepler_ebpf.exporters.page import PAUSE_S, Page, joined
from kepler_ebpf.exporters.query import Query, Row, key_of, picture
from kepler_ebpf.exporters.records import labels_record, parts_record, row_record, zone_records
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, primary_kind
from kepler_ebpf.model.levels import WORKLOAD_LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State

JSON = "application/json"
SORTS = ("watts", "joules", "cpu", "name")
DEFAULT_TOP, MAX_TOP = 50, 1000
MAX_TEXT_CHARS = 512
"""Length of a filter or a key."""

MAX_FIELDS = 16
DIGITS = 4
"""Digits after the point of watts in the history."""

PIECE_ROWS = 64


class Asked(NamedTuple):
    """A query. ``levels`` is empty for all, ``zone`` "" for the widest, ``key`` "" for each row."""

    is_history: bool = False
    levels: tuple[str, ...] = ()
    top: int = DEFAULT_TOP
    sort: str = "watts"
    zone: str = ""
    filter: str = ""
    key: str = ""
    points: int = MAX_POINTS
    is_gzipped: bool = False

    @property
    def is_whole(self) -> bool:
        """False: readers want many different ones."""
        return False


def parse_query(text: str, *, is_history: bool, is_gzipped: bool) -> Asked:
    """Return what the query of a URL wants. Raises ValueError with what is wrong with it."""
    own = ("level", "zone", "key", "points" if is_history else "top")
    known = own if is_history else (*own, "sort", "filter")
    fields = parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    for name in fields:
        if name not in known:
            raise ValueError(f"{name!a} is not a parameter: there are {', '.join(known)}")
    values = {name: given[-1] for name, given in fields.items()}
    asked = Asked(
        is_history=is_history,
        levels=tuple(sorted(set(fields.get("level", ())))),
        top=_whole(values, "top", DEFAULT_TOP, MAX_TOP),
        sort=values.get("sort", "watts"),
        zone=values.get("zone", ""),
        filter=values.get("filter", ""),
        key=values.get("key", ""),
        points=_whole(values, "points", MAX_POINTS, MAX_POINTS),
        is_gzipped=is_gzipped,
    )
    for level in asked.levels:
        _check(level in WORKLOAD_LEVELS, f"level: want one of {', '.join(WORKLOAD_LEVELS)}")
    _check(asked.sort in SORTS, f"sort: want one of {', '.join(SORTS)}")
    _check(not asked.key or len(asked.levels) == 1, "key: want one level with it")
    _check(not is_history or len(asked.levels) <= 1, "level: want one")
    for name in ("filter", "key", "zone"):
        _check(len(values.get(name, "")) <= MAX_TEXT_CHARS, f"{name}: is too long")
    return asked


def _whole(values: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = values.get(name, str(default))
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    _check(is_number and int(text) <= most, f"{name}: want a number from 0 to {most}")
    return int(text)


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


class Api:
    """Renders what queries want. Not for two threads at once, but for ``history``."""

    def __init__(
        self, node_name: str = "", levels: frozenset[str] = frozenset(WORKLOAD_LEVELS)
    ) -> None:
        """Show the workloads of *levels* of the node of this name."""
        self._levels = tuple(level for level in WORKLOAD_LEVELS if level in levels)
        self.history = History(self._levels)
        self._about = {"node": node_name, "since_s": round(time.time(), 3)}
        self._run = f"{time.time_ns():x}"
        self._last: tuple[Snapshot, Snapshot, Frame] | None = None

    def render(self, whole: Snapshot | None, asked: Asked) -> Page:
        """Return what *asked* wants of a snapshot; an empty page before the first one."""
        points = self.history.points(asked.points, *asked.levels) if asked.is_history else None
        if whole is None or (asked.is_history and points is None):
            return Page(JSON, bytearray())
        snapshot, frame = self._reduced(whole)
        pieces = (
            self._history(snapshot, points, asked)
            if points
            else self._snapshot(snapshot, frame, asked)
        )
        body = joined(_paced(pieces), compress=asked.is_gzipped)
        return Page(JSON, body, f"{self._run}-{round(whole.end_s * 1e6):x}")

    def _reduced(self, whole: Snapshot) -> tuple[Snapshot, Frame]:
        """Return the snapshot as it is shown, and its rows; once for all who read it."""
        if self._last is None or self._last[0] is not whole:
            shown = exported(whole, frozenset(self._levels))
            self._last = whole, shown, frame_of(whole)
        return self._last[1:]

    def _head(self, snapshot: Snapshot) -> dict[str, Any]:
        meter = snapshot.stats.meter
        return {
            "run": self._run,
            **self._about,
            "at_s": snapshot.at_s,
            "interval_s": snapshot.interval_s,
            "meter": meter.name,
            "estimate": meter.is_estimate,
        }

    # --- a snapshot

    def _snapshot(self, snapshot: Snapshot, frame: Frame, asked: Asked) -> Iterator[str]:
        stats, tracker = snapshot.stats, snapshot.stats.tracker
        own_j = (stats.own.energy_uj / UJ_PER_J).tolist()
        events = tracker.cgroup_events_lost + tracker.exec_events_lost + tracker.process_ends_lost
        head = {
            **self._head(snapshot),
            "residual_ratio": stats.loop.residual_ratio,
            "usage_ratio": snapshot.node.usage_ratio,
            "zones": list(zone_records(snapshot)),
            "running": {
                level: int(np.count_nonzero(view.state == State.RUNNING))
                for level, view in snapshot.workloads.items()
            },
            "own": {
                "cpu_seconds": stats.own.cpu_ns / NS_PER_S,
                "joules": dict(zip(snapshot.kinds, own_j, strict=True)),
            },
            "lost": {
                "cpu_seconds": tracker.lost_ns / NS_PER_S,
                "hidden_cpu_seconds": tracker.hidden_ns / NS_PER_S,
                "events": events,
                "meter_errors": sum(stats.meter.errors.values()),
                "failed_intervals": stats.loop.failed_intervals,
            },
        }
        yield json.dumps(head)[:-1] + ', "levels": {'
        levels = [level for level in self._levels if not asked.levels or level in asked.levels]
        for number, level in enumerate(levels):
            record, rows = _level(snapshot, frame, level, asked)
            yield f'{", " if number else ""}"{level}": {json.dumps(record)[:-1]}, "rows": ['
            yield from _items(rows)
            yield "]}"
        yield "}}\n"

    # --- the last minutes

    def _history(self, snapshot: Snapshot, points: Points, asked: Asked) -> Iterator[str]:
        kinds = [kind for kind in points.kinds if kind in snapshot.kinds]
        zone = asked.zone or primary_kind(kinds)
        parts = ("active", "idle", "unattributed", "own")
        head = {
            **self._head(snapshot),
            "zone": zone,
            "points": {
                "at_s": np.round(points.at_s, 3).tolist(),
                "length_s": np.round(points.length_s, 3).tolist(),
            },
            "zones": {
                kind: {
                    f"{part}_watts": _watts(getattr(points, f"{part}_uj")[:, column], points)
                    for part in parts
                }
                for column, kind in enumerate(points.kinds)
                if kind in kinds
            },
        }
        yield json.dumps(head)[:-1] + ', "workloads": ['
        yield from _items(_of_workloads(points, zone, asked.key))
        yield "]}\n"


def _level(
    snapshot: Snapshot, frame: Frame, level: str, asked: Asked
) -> tuple[dict[str, Any], Iterable[dict[str, Any]]]:
    """Return what is known of a level, and its rows."""
    top = 0 if asked.key else asked.top
    found = picture(frame, Query(level, asked.sort, asked.zone, asked.filter, top=top))
    view = snapshot.workloads[level]
    record = {
        "ran": len(view.ran_rows),
        "found": found.found,
        "zone": {"kind": found.zone, **parts_record(found)},
        "other_rows": found.others,
    }
    rows = _of_key(snapshot, level, asked.key) if asked.key else found.rows
    return record, ({"key": key_of(row.labels), **row_record(frame, row)} for row in rows)


def _of_key(snapshot: Snapshot, level: str, key: str) -> Iterator[Row]:
    """Yield the workload of a key, whether it ran in the interval or not."""
    view, per_watt = snapshot.workloads[level], UJ_PER_J * snapshot.interval_s
    for row, labels in enumerate(view.labels):
        if labels is not None and key_of(labels) == key:
            ran = np.flatnonzero(view.ran_rows == row)
            yield Row(
                labels=labels,
                state="ended" if view.state[row] == State.TERMINATED else "running",
                watts=tuple((view.ran_uj[ran].sum(axis=0) / per_watt).tolist()),
                joules=tuple((view.energy_uj[row] / UJ_PER_J).tolist()),
                cpu_s=float(view.ran_cpu_ns[ran].sum()) / NS_PER_S,
            )


def _of_workloads(points: Points, zone: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield each tracked workload, or that of *key*, with its watts in *zone*."""
    if zone not in points.kinds:
        return
    column = points.kinds.index(zone)
    for number, labels in enumerate(points.labels):
        if not key or key_of(labels) == key:
            watts = _watts(points.uj[:, number, column], points)
            yield {"key": key_of(labels), **labels_record(labels), "watts": watts}


def _watts(uj: Floats, points: Points) -> list[float | None]:
    watts: Sequence[float] = np.round(uj / (UJ_PER_J * points.length_s), DIGITS).tolist()
    return [None if math.isnan(each) else each for each in watts]


def _items(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the items of a JSON list, some at a time."""
    texts: list[str] = []
    separator = ""
    for record in records:
        texts.append(json.dumps(record))
        if len(texts) == PIECE_ROWS:
            yield separator + ", ".join(texts)
            texts, separator = [], ", "
    if texts:
        yield separator + ", ".join(texts)


def _paced(pieces: Iterable[str]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece.encode()
        time.sleep(PAUSE_S)
