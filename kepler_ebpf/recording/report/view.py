"""What is shown of a report: one zone of it, its highest rows, and the rest, which adds up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.recording.report.model import Parts, Report, Row, Step

OTHER_ROWS, NO_OWNER, IDLE = "other_rows", "no_owner", "idle"
REST = {OTHER_ROWS: "other rows", NO_OWNER: "no owner", IDLE: "idle"}
"""What is beside the rows, and its name for people."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a report is from: the recording's meter and host, and what is wrong with it."""

    path: str
    node: str
    meter: str
    is_estimate: bool
    problems: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Whether the energy is measured, in words."""
        return "ESTIMATE" if self.is_estimate else "measured"


class Sums(NamedTuple):
    """Joules of a zone in some time: of the rows that are shown, by name, and of the rest.

    They add up to ``energy_j``.
    """

    energy_j: float
    rows: Mapping[str, float]
    rest: Mapping[str, float]


@dataclass(frozen=True)
class View:
    """One zone of a report and its *top* rows, None for all, the highest first."""

    report: Report
    source: Source
    zone: str
    top: int | None
    by_step: bool

    @property
    def column(self) -> int:
        """The index of the zone among the kinds."""
        return self.report.kinds.index(self.zone)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that are shown."""
        rows = sorted(self.report.rows, key=lambda row: (-row.joules[self.column], row.title))
        return rows[: self.top]

    @cached_property
    def sums(self) -> Sums:
        """The joules of all of the time."""
        joules = {row.title: row.joules for row in self.report.rows}
        return self._sums(self.report.parts, joules, [row.title for row in self.rows])

    def sums_of(self, step: Step) -> Sums:
        """Return the joules of a step, for the rows that are shown of all of the time."""
        return self._sums(step.parts, step.rows, [row.title for row in self.rows])

    def _sums(self, parts: Parts, joules: Mapping[str, Floats], titles: list[str]) -> Sums:
        column = self.column
        shown = {title: float(joules[title][column]) for title in titles if title in joules}
        others = [each[column] for title, each in joules.items() if title not in shown]
        rest = {
            OTHER_ROWS: float(np.sum(others)),
            NO_OWNER: float(parts.no_owner_j[column]),
            IDLE: float(parts.idle_j[column]),
        }
        return Sums(float(parts.energy_j[column]), shown, rest)


def off_j(sums: Sums) -> float:
    """Return how far the parts are from the meter: rounding, or a fault of ours."""
    return sums.energy_j - sum(sums.rows.values()) - sum(sums.rest.values())


def name_of(title: str) -> str:
    """Return a title as it may be shown anywhere."""
    return harmless(title.strip())


def spans(view: View) -> Iterator[tuple[float, float, float, Sums]]:
    """Yield begin and end in Unix time, the length of the intervals in between, and the sums."""
    report = view.report
    if not view.by_step:
        yield report.began_s, report.ended_s, report.length_s, view.sums
        return
    for step in report.steps:
        yield step.end_s - report.step_s, step.end_s, step.length_s, view.sums_of(step)


def labels_of(labels: Any) -> dict[str, Any]:
    """Return what is known of a row beside its name."""
    slots = getattr(labels, "__slots__", ())
    names = ("path", "container_id", "pod_id") if "groups" in slots else slots
    return {name: getattr(labels, name) for name in names}
