"""The watts of a report over time, one upon the other: what both pictures show."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.recording.report.view import REST, View, name_of

MAX_ROWS = 10
GAP_S = 1e-6

COLORS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2"),
    *("#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#3b8f84"),
)
REST_COLORS = ("#8a8f98", "#b9aeb3", "#d5d9df")


class Series(NamedTuple):
    """A row or another part: name, color, and watts (steps,). All of them add up to the meter."""

    name: str
    color: str
    watts: Floats


class Stacked(NamedTuple):
    """``begins_s`` and ``ends_s`` (steps,) are Unix times; steps without an interval are absent."""

    begins_s: Floats
    ends_s: Floats
    series: tuple[Series, ...]


def stacked(view: View) -> Stacked:
    """Return the highest rows and the rest over time."""
    view = replace(view, top=min(view.top or MAX_ROWS, MAX_ROWS), by_step=True)
    steps = view.report.steps
    ends_s = np.array([step.end_s for step in steps])
    sums = [(view.sums_of(step), step.length_s) for step in steps]
    series = [
        Series(
            name_of(row.title),
            color,
            np.array([each.rows.get(row.title, 0.0) / length_s for each, length_s in sums]),
        )
        for row, color in zip(view.rows, COLORS, strict=False)
    ]
    series += [
        Series(name, color, np.array([each.rest[part] / length_s for each, length_s in sums]))
        for (part, name), color in zip(REST.items(), REST_COLORS, strict=True)
    ]
    return Stacked(ends_s - view.report.step_s, ends_s, tuple(series))


def levels(found: Stacked) -> Floats:
    """Return the lower edge of each series, and the upper one of the last: (series + 1, steps)."""
    watts = np.array([series.watts for series in found.series])
    return np.vstack((np.zeros(watts.shape[1]), np.maximum(watts, 0.0).cumsum(axis=0)))


def runs(found: Stacked) -> list[slice]:
    """Return the stretches of steps without a gap between them."""
    gaps = np.flatnonzero(found.begins_s[1:] - found.ends_s[:-1] > GAP_S) + 1
    edges = [0, *gaps.tolist(), len(found.ends_s)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]
