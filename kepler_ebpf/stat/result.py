"""The result of `stat`: frozen values, and their form as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ZoneEnergy:
    """The energy of all zones of one kind over a run, in joules.

    ``joules`` is that of the measured tasks; ``error_joules`` bounds the error of metering it, None
    where it is modelled or a zone could not be read. ``rest_joules`` is what else the zone drew:
    ``rest_active_joules`` of other tasks, ``idle_joules``, and ``unowned_joules`` that no task can
    be charged for. These four are None where who measures may not know them.
    """

    joules: float
    error_joules: float | None
    rest_joules: float | None
    rest_active_joules: float | None
    idle_joules: float | None
    unowned_joules: float | None
    mean_watts: float
    peak_watts: float

    @property
    def node_joules(self) -> float | None:
        """What the zone drew in all."""
        return None if self.rest_joules is None else self.joules + self.rest_joules


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of a run, of *wall_s* seconds, which ended *at_s* seconds after the run's start."""

    at_s: float
    wall_s: float
    cpu_s: float
    switches: int
    untracked_s: float
    zones: Mapping[str, ZoneEnergy]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. ``exit_status`` is as the shell reports it, None without a command.

    ``tasks`` were started or seen, ``running`` of them still run at the end. ``untracked_s`` is CPU
    time of the machine that is known by cgroup only or not at all: some of it may be theirs. There
    are no ``zones`` where nothing was counted.
    ``intervals`` are the rows of -I in JSON.
    """

    wall_s: float
    cpu_s: float
    tasks: int
    switches: int
    untracked_s: float
    zones: Mapping[str, ZoneEnergy]
    running: int = 0
    exit_status: int | None = None
    intervals: tuple[Interval, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The run as it is in JSON, with the key ``intervals`` where it has some."""
        record = asdict(self)
        if not self.intervals:
            del record["intervals"]
        return record


NOT_COUNTED = Run(wall_s=0.0, cpu_s=0.0, tasks=0, switches=0, untracked_s=0.0, zones={})
"""What ended before its counting began."""


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of one `stat`. ``subject`` names what was measured, for people.

    ``exit_status`` is that of the last run, or of what ended the runs early; 0 without a command.
    """

    command: tuple[str, ...]
    subject: str
    runs: tuple[Run, ...]
    meter: str
    estimate: bool
    host: Mapping[str, str]
    planned_runs: int = 1
    exit_status: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether the runs ended early."""
        return len(self.runs) < self.planned_runs

    @property
    def record(self) -> dict[str, Any]:
        """The result as it is in JSON."""
        return asdict(self) | {"runs": [run.record for run in self.runs]}

    def to_json(self) -> str:
        """Return the result as one JSON object, with the key ``cut`` for ``is_cut``."""
        return json.dumps(self.record | {"cut": self.is_cut}, indent=1)
