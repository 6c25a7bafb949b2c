"""A profile: rows of stacks with their CPU time and energy, which add up to the account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kepler_ebpf.model.arrays import Floats, Ints


class Origin(Enum):
    """Where the code of a frame lies."""

    USER = "user"
    """In a file, which is the frame's ``module``."""
    KERNEL = "kernel"
    """In the kernel or a module of it."""
    JIT = "jit"
    """In memory that a program has filled with code; the name is from its map."""
    NONE = "none"
    """Nowhere: the frame stands for what is not known, such as ``[unsampled]``."""


class Frame(NamedTuple):
    """One frame as people see it. A name in square brackets is not of a function."""

    name: str
    module: str = ""
    origin: Origin = Origin.USER


class Process(NamedTuple):
    """A process. ``start_ns`` is on the boot-time clock; with pid 0 it stands for several."""

    pid: int
    start_ns: int
    comm: str


@dataclass(frozen=True, slots=True)
class Rows:
    """One row for each interval, task and stack.

    Of shape (N,): ``interval`` indexes the intervals, ``process`` the processes, ``stack`` the
    stacks; ``tid`` is the task's; ``samples`` how often the stack was seen, 0 where it stands for
    what was not sampled; ``cpu_ns`` and ``energy_uj`` (N, kinds) its part of the account.
    """

    interval: Ints
    process: Ints
    tid: Ints
    stack: Ints
    samples: Ints
    cpu_ns: Floats
    energy_uj: Floats


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that the formats show.

    ``stacks`` index ``frames``, the outermost first. ``start_ns`` and ``end_ns`` (intervals,) are
    on the monotonic clock, ``began_at_s`` is the first as a Unix time. ``kinds`` are the kinds of
    zones, which overlap: nobody adds them up. ``notes`` are sentences about what is missing or
    estimated. ``counts`` says how many samples were lost, and how many frames have no name.
    """

    frames: tuple[Frame, ...]
    stacks: tuple[tuple[int, ...], ...]
    processes: tuple[Process, ...]
    rows: Rows
    start_ns: Ints
    end_ns: Ints
    began_at_s: float
    kinds: tuple[str, ...]
    subject: str
    """What was profiled: a command line, or pids."""
    meter: str
    is_estimate: bool
    frequency_hz: int
    host: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
