"""Profiles for tests: by hand, drawn by hypothesis, and one that looks like a real one."""

from collections.abc import Hashable, Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from kepler_ebpf.profile.model import Frame, Origin, Process, Profile, Rows

KINDS = ("package", "dram")
NS_PER_S = 1_000_000_000
BEGAN_AT_S = 1_764_150_000.0


class Row(NamedTuple):
    """A row with its process and its stack, outermost frame first."""

    process: Process
    stack: tuple[Frame, ...]
    energy_uj: tuple[float, ...]
    cpu_ns: float = 10e6
    samples: int = 1
    interval: int = 0
    tid: int | None = None


def profile_of(rows: Sequence[Row], *, intervals: int = 1, **other) -> Profile:
    """Return a profile of one-second intervals with these rows; *other* are its other fields."""
    frames = _places(frame for row in rows for frame in row.stack)
    stacks = _places(row.stack for row in rows)
    processes = _places(row.process for row in rows)
    start_ns = 7 * NS_PER_S + np.arange(intervals, dtype=np.int64) * NS_PER_S
    kinds = other.pop("kinds", KINDS)
    fields = {
        "subject": "make -j2",
        "meter": "rapl",
        "is_estimate": False,
        "frequency_hz": 99,
        **other,
    }
    return Profile(
        frames=tuple(frames),
        stacks=tuple(tuple(frames[frame] for frame in stack) for stack in stacks),
        processes=tuple(processes),
        rows=Rows(
            interval=np.array([row.interval for row in rows], np.int64),
            process=np.array([processes[row.process] for row in rows], np.int64),
            tid=np.array([row.tid or row.process.pid for row in rows], np.int64),
            stack=np.array([stacks[row.stack] for row in rows], np.int64),
            samples=np.array([row.samples for row in rows], np.int64),
            cpu_ns=np.array([row.cpu_ns for row in rows], np.float64),
            energy_uj=np.array([row.energy_uj for row in rows], np.float64).reshape(-1, len(kinds)),
        ),
        start_ns=start_ns,
        end_ns=start_ns + NS_PER_S,
        began_at_s=BEGAN_AT_S,
        kinds=kinds,
        **fields,
    )


def _places(things: Iterable[Hashable]) -> dict[Any, int]:
    return {thing: place for place, thing in enumerate(dict.fromkeys(things))}


names = st.text(max_size=12)
frames = st.builds(Frame, names, st.sampled_from(["", "libc.so.6", "a;b"]), st.sampled_from(Origin))
processes = st.builds(Process, st.integers(0, 4_000_000), st.integers(0, 9), names)
amounts = st.floats(0, 1e9)


@st.composite
def profiles(draw) -> Profile:
    """Draw a profile: any names, stacks of any depth, amounts from nothing to a kilojoule."""
    intervals = draw(st.integers(1, 4))
    frame_list = draw(st.lists(frames, min_size=1, max_size=6))
    process_list = draw(st.lists(processes, min_size=1, max_size=4))
    row = st.builds(
        Row,
        process=st.sampled_from(process_list),
        stack=st.lists(st.sampled_from(frame_list), max_size=6).map(tuple),
        energy_uj=st.tuples(amounts, amounts),
        cpu_ns=amounts,
        samples=st.integers(0, 1000),
        interval=st.integers(0, intervals - 1),
        tid=st.integers(1, 9),
    )
    words = {
        "subject": draw(names),
        "notes": tuple(draw(st.lists(names, max_size=2))),
        "host": draw(st.dictionaries(names, names, max_size=2)),
    }
    return profile_of(draw(st.lists(row, max_size=30)), intervals=intervals, **words)


def large_profile(stacks: int, depth: int = 40) -> Profile:
    """Return a profile with so many different stacks, some of which are much larger than others."""
    random = Random(7)  # noqa: S311
    origins = (Origin.USER, Origin.USER, Origin.USER, Origin.KERNEL, Origin.JIT)
    pool = [
        Frame(f"ns{index % 37}::function_{index}", f"lib{index % 9}.so", origins[index % 5])
        for index in range(900)
    ]
    rows = []
    for index in range(stacks):
        place = index % 3
        stack = [pool[place]]
        while len(stack) < depth and random.random() < 0.93:
            place = (place * 5 + random.choice((1, 1, 1, 2, 7))) % len(pool)
            stack.append(pool[place])
        joules = random.paretovariate(1.3)
        process = Process(100 + index % 5, 1, f"worker-{index % 5}")
        rows.append(Row(process, tuple(stack), (joules * 1e4, joules * 1e3), joules * 1e6))
    return profile_of(rows)
