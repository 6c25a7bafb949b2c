"""Reads a recording, and sums what it has of a range of time by group and by step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, Zone, primary_kind
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.recording.names import Names
from kepler_ebpf.recording.reader import Batch
from kepler_ebpf.recording.report.model import Parts, Report, Row, Step
from kepler_ebpf.recording.sums import Sums

STEPS_S = (0.1, 0.2, 1, 2, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
"""Lengths of a step where none is asked for: each is a whole number of those before it."""

MAX_STEPS, MAX_STEPS_ASKED_FOR = 240, 10_000
MAX_GROUPS, MAX_GROUPS_OF_STEP = 100_000, 500
"""Beyond, the half with less energy is in one group, ``OTHERS``."""


@dataclass(slots=True)
class _Sum:
    sums: Sums
    node_uj: Floats
    length_s: float = 0.0

    def merge(self, other: _Sum) -> None:
        self.sums.merge(other.sums)
        self.node_uj += other.node_uj
        self.length_s += other.length_s


@dataclass(slots=True)
class Account:
    """Adds up batches. ``step_s`` is the length of a step, None to choose one."""

    zones: tuple[Zone, ...]
    by: str
    step_s: float | None
    _all: _Sum = field(init=False)
    _steps: dict[int, _Sum] = field(init=False, default_factory=dict)
    _level: int = field(init=False, default=0)
    _intervals: int = field(init=False, default=0)
    _unread: int = field(init=False, default=0)
    _longest_s: float = field(init=False, default=0.0)
    _range_s: tuple[float, float] = field(init=False, default=(np.inf, -np.inf))

    def __post_init__(self) -> None:
        self._all = self._new()

    @property
    def _ranking(self) -> int:
        kinds = zone_kinds(self.zones)
        return kinds.index(primary_kind(kinds))

    @property
    def _length_s(self) -> float:
        return self.step_s or STEPS_S[self._level]

    @property
    def _can_coarsen(self) -> bool:
        return not self.step_s and self._level + 1 < len(STEPS_S)

    def _new(self) -> _Sum:
        return _Sum(Sums(self.by), np.zeros((3, len(zone_kinds(self.zones)))))

    def add(self, measured: Measured, ends_s: Floats) -> None:
        """Add intervals, which ended at *ends_s* (intervals,) in Unix time."""
        attribution = attribute(measured, self.zones)
        columns = [[zone.kind == kind for kind in attribution.kinds] for zone in self.zones]
        energy_uj = attribution.active_uj + attribution.idle_uj
        parts = (energy_uj, attribution.idle_uj, attribution.unattributed_uj)
        node_uj = np.array([part @ np.array(columns, float) for part in parts])
        figures = np.column_stack((attribution.shares_uj, measured.records["cpu_ns"]))
        lengths_s = np.array([interval.length_s for interval in measured.intervals])
        self._add_to_steps(measured, ends_s, figures, node_uj, lengths_s)
        self._all.sums.add(measured.records, figures)
        self._all.sums.fold(MAX_GROUPS, self._ranking)
        self._all.node_uj += node_uj.sum(axis=1)
        self._all.length_s += float(lengths_s.sum())
        self._intervals += len(ends_s)
        self._unread += sum(any(interval.unread) for interval in measured.intervals)
        self._longest_s = max(self._longest_s, float(lengths_s.max()))
        began_s, ended_s = self._range_s
        began_s = min(began_s, float(ends_s[0] - lengths_s[0]))
        self._range_s = began_s, max(ended_s, float(ends_s[-1]))
        if self.step_s and len(self._steps) > MAX_STEPS_ASKED_FOR:
            problem = f"--step {self.step_s:g}s makes more than {MAX_STEPS_ASKED_FOR} steps"
            raise ConfigError(problem, "choose a longer step, or a shorter time")
        while self._can_coarsen and len(self._steps) > MAX_STEPS:
            self._coarsen()

    def _add_to_steps(
        self,
        measured: Measured,
        ends_s: Floats,
        figures: Floats,
        node_uj: Floats,
        lengths_s: Floats,
    ) -> None:
        step_of = np.floor(ends_s / self._length_s).astype(np.int64)
        for step in np.unique(step_of).tolist():
            is_in = step_of == step
            is_of = is_in[measured.interval_of]
            part = self._steps.setdefault(step, self._new())
            part.sums.add(measured.records[is_of], figures[is_of])
            part.sums.fold(MAX_GROUPS_OF_STEP, self._ranking)
            part.node_uj += node_uj[:, is_in].sum(axis=1)
            part.length_s += float(lengths_s[is_in].sum())

    def report(self, names: Names) -> Report | None:
        """Return the sums, with the groups' names; None where nothing was added."""
        if not self._intervals:
            return None
        while self._can_coarsen and self._length_s < self._longest_s:
            self._coarsen()
        rows = [
            Row(title, labels, float(summed[-1]) / NS_PER_S, summed[:-1] / UJ_PER_J)
            for title, (labels, summed) in self._all.sums.labelled(names).items()
        ]
        began_s, ended_s = self._range_s
        return Report(
            by=self.by,
            began_s=began_s,
            ended_s=ended_s,
            length_s=self._all.length_s,
            intervals=self._intervals,
            unread=self._unread,
            kinds=zone_kinds(self.zones),
            parts=Parts(*self._all.node_uj / UJ_PER_J),
            rows=tuple(rows),
            step_s=self._length_s,
            steps=tuple(self._step(number, names) for number in sorted(self._steps)),
        )

    def _step(self, number: int, names: Names) -> Step:
        part = self._steps[number]
        rows = part.sums.titled(names).items()
        return Step(
            end_s=(number + 1) * self._length_s,
            length_s=part.length_s,
            parts=Parts(*part.node_uj / UJ_PER_J),
            rows={title: summed[:-1] / UJ_PER_J for title, summed in rows},
        )

    def _coarsen(self) -> None:
        """Make longer steps of those that there are."""
        before, steps = self._length_s, self._steps
        self._level += 1
        self._steps = {}
        for number in sorted(steps):
            coarse = int((number + 0.5) * before // self._length_s)
            if coarse in self._steps:
                self._steps[coarse].merge(steps[number])
            else:
                self._steps[coarse] = steps[number]


def limited(batch: Batch, since_s: float, until_s: float) -> tuple[Measured, Floats]:
    """Return the intervals that ended after *since_s*, until *until_s*, and the ends of these."""
    measured, ends_s = batch.measured, batch.ends_s
    is_in = (ends_s > since_s) & (ends_s <= until_s)
    if is_in.all():
        return measured, ends_s
    is_of = is_in[measured.interval_of]
    kept = [each for each, wanted in zip(measured.intervals, is_in.tolist(), strict=True) if wanted]
    interval_of = (np.cumsum(is_in) - 1)[measured.interval_of[is_of]]
    return Measured(measured.records[is_of], interval_of, tuple(kept)), ends_s[is_in]
