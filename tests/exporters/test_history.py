"""The last minutes: nothing that was used is missing from them, and they stay small."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from snapshots import GAP, KINDS, Row, process, snapshot

from kepler_ebpf.exporters.history import MAX_POINTS, MAX_TRACKED, History
from kepler_ebpf.exporters.query import key_of
from kepler_ebpf.model.snapshot import Snapshot


def at(
    end_s: float, energies: Sequence[float | None], node_uj: float = 0.0, first: int = 1
) -> Snapshot:
    """Return a snapshot of processes that have used so many µJ of each kind since start."""
    rows = [
        GAP if uj is None else Row(process(first + index), energy_uj=(uj, uj / 2), ran_uj=None)
        for index, uj in enumerate(energies)
    ]
    made = snapshot(rows, at_s=1000.0 + end_s, end_s=end_s)
    node = replace(made.node, active_uj=made.node.active_uj + node_uj)
    return replace(made, node=node)


def taken(*snapshots: Snapshot) -> History:
    """Return the history of these snapshots."""
    history = History(["process"])
    for each in snapshots:
        history.take(each)
    return history


def by_key(history: History) -> dict[str, list[float]]:
    """Return the µJ of the first kind in each point, by key."""
    points = history.points(level="process")
    assert points
    return {
        key_of(labels): points.uj[:, index, 0].tolist()
        for index, labels in enumerate(points.labels)
    }


STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.lists(st.integers(0, 1_000_000), min_size=4, max_size=4),
        st.integers(0, 1_000_000),
    ),
    min_size=1,
    max_size=20,
)


@given(STEPS)
def test_no_energy_is_missing_between_points(
    steps: list[tuple[float, list[int], int]],
) -> None:
    """Whenever snapshots are made, the points add up to what was used from first to last."""
    end_s, totals, node_uj = 10.0, [0.0] * 4, 0.0
    history = taken(at(end_s, [*totals]))
    for length_s, used, active_uj in [*steps, (5.0, [1] * 4, 1)]:
        end_s, node_uj = end_s + length_s, node_uj + active_uj
        totals = [total + uj for total, uj in zip(totals, used, strict=True)]
        history.take(at(end_s, [*totals], node_uj))
    points = history.points(level="process")
    assert points
    np.testing.assert_allclose(points.length_s.sum(), end_s - 10.0)
    # Two zones of the first kind, one of the second.
    np.testing.assert_allclose(points.active_uj.sum(axis=0), [2 * node_uj, node_uj])
    sums = {key: np.nansum(uj) for key, uj in by_key(history).items()}
    assert sums == {f"{pid}-1": total for pid, total in enumerate(totals, 1)}


def test_points_are_a_second_apart() -> None:
    """However often snapshots are made, a point is of a second or more."""
    history = taken(*(at(10 + number / 10, [number * 100.0]) for number in range(31)))
    points = history.points()
    assert points
    assert len(points.length_s) == 3
    assert points.length_s.min() > 0.9


def test_memory_is_bounded() -> None:
    """After the last place the first point goes, and of many workloads the highest are kept."""
    history = History(["process"])
    for number in range(MAX_POINTS + 40):
        first = 1 + 200 * number
        history.take(at(10.0 + number, [float(uj) for uj in range(1, 201)], first=first))
    points = history.points(level="process")
    assert points
    assert points.uj.shape == (MAX_POINTS, MAX_TRACKED, len(KINDS))
    assert points.at_s[0] == 1000.0 + 10 + 40
    assert points.at_s[-1] == 1000.0 + 10 + MAX_POINTS + 39


def test_who_uses_most_is_kept() -> None:
    """A steady workload keeps its place beside hundreds that come and go with less."""
    history = History(["process"])
    for number in range(50):
        flashes = [float(uj) for uj in range(1, 101)]
        shown = at(10.0 + number, [1000.0 * number, *flashes])
        labels = [process(7), *(process(1000 + 100 * number + each) for each in range(100))]
        view = replace(shown.workloads["process"], labels=tuple(labels))
        history.take(replace(shown, workloads={**shown.workloads, "process": view}))
    assert by_key(history)["7-1"] == [1000.0] * 49


def test_before_it_was_tracked_is_not_zero() -> None:
    """What is not known of a workload is no number."""
    idle = [0.0] * 2
    history = taken(at(1, idle), at(2, [5.0, 0.0]), at(3, [5.0, 7.0]), at(4, [6.0, 7.0]))
    found = by_key(history)
    assert found["1-1"] == [5, 0, 1]
    assert np.isnan(found["2-1"][0])
    assert found["2-1"][1:] == [7, 0]


def test_a_row_that_another_takes_is_another() -> None:
    """A row's new workload starts at what it used itself; the old one has ended."""
    before, after = at(2, [50.0, 9.0]), at(3, [80.0, 9.0], first=101)
    history = taken(at(1, [0.0, 0.0]), before, after, at(4, [81.0, 9.0], first=101))
    found = by_key(history)
    assert found["1-1"] == [50, 0, 0]
    assert found["101-1"][1:] == [80, 1]


def test_a_workload_that_came_back_to_its_row_counts_from_zero() -> None:
    """Between two points it was listed no longer, and again."""
    history = taken(at(0.0, [5e6]), at(1.0, [8e6]), at(2.0, [1e6]))
    assert by_key(history) == {"1-1": [3e6, 1e6]}


def test_a_gap_ends_a_workload() -> None:
    """A workload that has no row any more uses nothing, and its minutes stay."""
    history = taken(at(1, [0.0, 0.0]), at(2, [5.0, 3.0]), at(3, [None, 4.0]))
    assert by_key(history) == {"1-1": [5, 0], "2-1": [3, 1]}


def test_the_sum_of_retired_processes_is_no_workload() -> None:
    """What moves to [retired] was used before: it is nobody's power now."""
    rows = [Row(process(0, "[retired]"), energy_uj=(0.0, 0.0), ran_uj=None)]
    later = [Row(process(0, "[retired]"), energy_uj=(9e9, 0.0), ran_uj=None)]
    history = taken(snapshot(rows, end_s=1.0), snapshot(later, end_s=2.0))
    assert by_key(history) == {}


def test_a_reader_never_holds_the_loop() -> None:
    """A snapshot that comes while the ring is copied is left out; the next point has its energy."""
    history = taken(at(1, [0.0]))
    with history._lock:  # noqa: SLF001  as a reader that was stopped while it copies
        loop = threading.Thread(target=history.take, args=(at(2, [5.0]),))
        loop.start()
        loop.join(20)
        assert not loop.is_alive()
    history.take(at(3, [7.0]))
    assert by_key(history) == {"1-1": [7]}
