"""A report as a value: what its forms are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from kepler_ebpf.model.arrays import Floats


class Row(NamedTuple):
    """A group: its title and labels (None where it has none), CPU seconds, joules (kinds,)."""

    title: str
    labels: Any
    cpu_s: float
    joules: Floats


class Parts(NamedTuple):
    """The energy of all zones of each kind, in joules: each (kinds,)."""

    energy_j: Floats
    idle_j: Floats
    no_owner_j: Floats


class Step(NamedTuple):
    """A stretch of time: Unix time of its end, the length of its intervals, parts and rows.

    ``rows`` are joules (kinds,) by title; of many groups those with less energy are ``OTHERS``.
    """

    end_s: float
    length_s: float
    parts: Parts
    rows: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Report:
    """The sums of a range of time.

    ``began_s`` and ``ended_s`` are Unix times of the first and the last interval that is in it;
    ``length_s`` is that of its intervals. In each of *kinds* the rows, no owner and idle are the
    energy, of all and of each step. ``unread`` counts intervals in which a zone could not be read.
    """

    by: str
    began_s: float
    ended_s: float
    length_s: float
    intervals: int
    unread: int
    kinds: tuple[str, ...]
    parts: Parts
    rows: tuple[Row, ...]
    step_s: float
    steps: tuple[Step, ...]
