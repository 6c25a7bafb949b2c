"""Which rows of an interval are shown, and that they and the rest add up to the meter."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import CONTAINER_ID, Row, container, process, view
from top_frames import closed

from kepler_ebpf.exporters.frame import VIEWS, Frame
from kepler_ebpf.exporters.query import Query, identity, matcher, picture
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.model.names import CgroupName
from kepler_ebpf.model.snapshot import CgroupsView
from kepler_ebpf.model.workloads import State, UnitLabels
from kepler_ebpf.top import records, text


def many(count=30) -> list[Row]:
    """Return processes whose watts and totals rise, and whose names fall, with their pid."""
    return [
        Row(
            process(pid, comm=f"task-{99 - pid}"),
            energy_uj=(1e9 - pid, 0.0),
            ran_uj=(float(pid), 0.0),
        )
        for pid in range(1, count + 1)
    ]


def pids(found) -> list[int]:
    """Return the pids of the rows that are shown."""
    return [row.labels.pid for row in found.rows]


@pytest.mark.parametrize("sort", ["watts", "joules", "cpu", "name"])
@pytest.mark.parametrize("top", [None, 1, 7, 30, 100])
def test_rows_and_the_rest_are_the_meter(sort, top):
    """However many rows are shown, they, the others, what has no owner and idle are the zone."""
    frame = frame_of(closed(many()))
    for zone in ("package", "dram"):
        found = picture(frame, Query(sort=sort, zone=zone, top=top))
        assert len(found.rows) == min(top or 30, 30)
        assert found.others == 30 - len(found.rows)
        assert found.off_w == pytest.approx(0, abs=1e-9)
        assert found.outside_w == pytest.approx(0, abs=1e-9)


def test_other_views_name_what_is_in_none_of_their_rows():
    """Watts of processes without a container are a part of their own."""
    inside = [Row(container(), ran_uj=(0.5e6, 0.0))]
    whole = closed(many())
    whole = replace(whole, workloads={**whole.workloads, "container": view(inside)})
    found = picture(frame_of(whole), Query("container"))
    assert found.shown_w == pytest.approx(0.5 / whole.interval_s)
    assert found.outside_w == pytest.approx((1.2 - 0.15 - 0.5) / whole.interval_s)
    assert found.off_w == pytest.approx(0, abs=1e-9)


def test_a_sum_that_is_off_is_said_to_be_off():
    """The parts are counted apart: energy that is in none of them is not hidden in one."""
    frame = frame_of(closed(many()))
    whole = picture(frame, Query())
    lost = replace(frame, energy_uj=frame.energy_uj + 0.25e6)
    found = picture(lost, Query())
    assert found.off_w == pytest.approx(0.5)
    assert "off by 0.5" in text.sums(found, "process")
    assert "off by" not in text.sums(whole, "process")


def test_order():
    """Each order has the highest first, names the lowest."""
    frame = frame_of(closed(many()))
    assert pids(picture(frame, Query(top=3))) == [30, 29, 28]
    assert pids(picture(frame, Query(sort="joules", top=3))) == [1, 2, 3]
    assert pids(picture(frame, Query(sort="name", top=2))) == [1, 2]


def test_trimmed_frames_add_up_as_well():
    """A frame that is kept has the highest rows, and the sums of all."""
    frame = frame_of(closed(many())).trimmed(5, identity)
    found = picture(frame, Query(top=3))
    assert pids(found) == [30, 29, 28]
    assert found.others == 27
    assert found.off_w == pytest.approx(0, abs=1e-9)


def test_a_zone_that_could_not_be_read_has_no_watts():
    """Unknown watts are not 0: a dash for people, null for programs, nothing in CSV."""
    frame = frame_of(closed(many(2), unread_kinds=frozenset({"package"})))
    shown = text.table(frame, Query())
    assert "could not be read" in shown
    assert shown.splitlines()[2].split()[0] == "-"
    record = json.loads(records.json_line(frame, Query()))
    assert record["zone"]["watts"] is None
    assert record["rows"][0]["watts"] == {"package": None, "dram": pytest.approx(0.1333, rel=0.01)}
    rows = list(csv.DictReader(io.StringIO(records.CSV_HEADER + records.csv_lines(frame, Query()))))
    assert [row["watts"] for row in rows] == ["", ""]


def test_what_ended_is_a_row():
    """A process that ended in the interval is shown, with its state."""
    frame = frame_of(closed([Row(process(7), state=State.TERMINATED), Row(process(8))]))
    assert [row.state for row in picture(frame, Query()).rows] == ["ended", "running"]


def test_no_rows():
    """An interval in which nothing ran in a view is shown as well."""
    frame = frame_of(closed(many(1)))
    assert picture(frame, Query("container")).rows == ()
    assert "0 rows 0.000" in text.table(frame, Query("container"))


# --- filters ----------------------------------------------------------------------------------


def test_filter():
    """A text is searched for in name, pid and executable; * and ? make a pattern of the whole."""
    frame = frame_of(closed(many()))
    assert pids(picture(frame, Query(filter="TASK-90"))) == [9]
    assert pids(picture(frame, Query(filter="bin/task-90"))) == [9]
    assert pids(picture(frame, Query(filter="*task-9?*"))) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    found = picture(frame, Query(filter="no such"))
    assert (found.rows, found.others) == ((), 30)
    assert found.off_w == pytest.approx(0, abs=1e-9)


@given(st.text(max_size=20), st.text(max_size=50))
def test_any_filter_is_allowed(wanted, name):
    """No text is a wrong filter, whatever is in it."""
    assert matcher(wanted)(name) in {True, False}
    if not set(wanted) & set("*?["):
        assert matcher(wanted)(f"{name}{wanted}{name}")


def test_filter_does_not_run_away():
    """A pattern made to be slow ends."""
    assert not matcher("*a" * 50 + "b")("a" * 5_000)


# --- zoom -------------------------------------------------------------------------------------


def zoomable() -> Frame:
    """Return three processes: in a container of a pod, in a unit's cgroup below, in none."""
    unit = UnitLabels("cron.service", "systemd")
    of_pod = CgroupName("/kube/pod", container(), "pod-1")
    below = CgroupName("/system.slice/cron.service/x", groups=(("unit", unit),))
    rows = [Row(process(1, container_id=CONTAINER_ID)), Row(process(2)), Row(process(3))]
    cgroups = [Row(CgroupName("/system.slice"))]
    shown = CgroupsView(view(cgroups), (of_pod, below, None))
    return frame_of(closed(rows, cgroups=shown))


@pytest.mark.parametrize(
    ("within", "wanted"),
    [
        (container(), [1]),
        (CgroupName("/kube"), [1]),
        (CgroupName("/system.slice"), [2]),
        (CgroupName("/system"), []),
        (UnitLabels("cron.service", "systemd"), [2]),
    ],
    ids=str,
)
def test_zoom(within, wanted):
    """The processes of a container, of a cgroup with all below it, and of a unit."""
    assert sorted(pids(picture(zoomable(), Query(within=within)))) == wanted


# --- trees ------------------------------------------------------------------------------------

PATHS = st.lists(
    st.lists(st.sampled_from("abc"), max_size=4).map(lambda parts: "/" + "/".join(parts)),
    min_size=1,
    max_size=12,
    unique=True,
)


def tree_of(paths) -> Frame:
    """Return a frame whose cgroups have one process each, with other watts."""
    rows = [Row(process(pid), ran_uj=(float(pid), 1.0)) for pid, _ in enumerate(paths, 1)]
    whole = closed(rows)
    owned = whole.workloads["process"].ran_uj.tolist()
    names = tuple(map(CgroupName, paths))
    cgroups = [Row(name, ran_uj=uj) for name, uj in zip(names, owned, strict=True)]
    return frame_of(replace(whole, cgroups=CgroupsView(view(cgroups), names)))


@given(PATHS, st.data())
def test_a_tree_adds_up(paths, data):
    """Each row has all that is below it, and the sum has each watt once, whatever is folded."""
    frame = tree_of(paths)
    folded = data.draw(st.frozensets(st.sampled_from(paths)))
    top = data.draw(st.integers(1, 12))
    found = picture(frame, Query("cgroup", folded=folded, top=top))
    assert found.off_w == pytest.approx(0, abs=1e-9)
    assert found.outside_w == pytest.approx(0, abs=1e-9)
    flat = picture(frame, Query("cgroup"))
    assert {row.labels.title for row in flat.rows} == set(paths)
    for row in found.rows:
        path = row.labels.title.rstrip("/") + "/"
        inside = [each for each in flat.rows if f"{each.labels.title}/".startswith(path)]
        assert row.watts[0] == pytest.approx(sum(each.watts[0] for each in inside))


@given(PATHS)
def test_a_trimmed_tree_adds_up(paths):
    """What an earlier interval has lost of a tree is in the rows above it."""
    frame = tree_of(paths).trimmed(3, identity)
    found = picture(frame, Query("cgroup", folded=frozenset()))
    assert found.rows[0].labels.title == "/"
    assert found.rows[0].watts[0] == pytest.approx(found.shown_w)
    assert found.off_w == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sort", ["watts", "joules", "cpu", "name"])
def test_a_tree_has_parents_first(sort):
    """Whatever the order is, what is below a cgroup follows it."""
    found = picture(
        tree_of(["/b/x", "/a", "/b", "/b/y"]), Query("cgroup", sort, folded=frozenset())
    )
    paths = [row.labels.title for row in found.rows]
    assert paths[0] == "/"
    at = paths.index("/b")
    assert set(paths[at + 1 : at + 3]) == {"/b/x", "/b/y"}
    assert [row.name.strip() for row in found.rows if row.labels.title == "/b"] == ["- b"]


def test_every_view_is_there():
    """A frame has the rows of each view."""
    assert set(zoomable().views) == set(VIEWS)


def test_identity_is_not_the_name():
    """A process that calls exec is the same; another with its pid is not; sums differ by word."""
    assert identity(process(7, "sh")) == identity(process(7, "ls"))
    assert identity(process(7)) != identity(process(7, start_ns=2))
    assert identity(process(0, "[others]")) != identity(process(0, "[retired]"))


# --- text -------------------------------------------------------------------------------------


def test_csv_adds_up():
    """The watts of an interval's lines are those of the meter."""
    frame = frame_of(closed(many()))
    rows = csv.DictReader(io.StringIO(records.CSV_HEADER + records.csv_lines(frame, Query(top=5))))
    assert sum(float(row["watts"]) for row in rows) == pytest.approx(6.0)


def test_json_adds_up():
    """The parts of the zone's watts are the zone's, and the shown rows are the first part."""
    frame = frame_of(closed(many()))
    record = json.loads(records.json_line(frame, Query(top=5)))
    zone = record["zone"]
    parts = [value for name, value in zone.items() if name.endswith("_watts")]
    assert sum(parts) == pytest.approx(zone["watts"]) == pytest.approx(6.0)
    shown = sum(row["watts"]["package"] for row in record["rows"])
    assert shown == pytest.approx(zone["rows_watts"])


@pytest.mark.parametrize("comm", ["\x1b[2J", "a\nb", "\udcff", "\u202e", '"', ","])
def test_names_are_harmless(comm):
    """A name cannot move a terminal's cursor, break a line, or make text that is not valid."""
    frame = frame_of(closed([Row(process(1, comm))]))
    shown = text.table(frame, Query())
    assert len(shown.splitlines()) == 4
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(records.json_line(frame, Query()).splitlines()) == 1
    lines = records.CSV_HEADER + records.csv_lines(frame, Query())
    lines.encode()
    names = [row["name"] for row in csv.DictReader(io.StringIO(lines)) if row["name"]]
    assert len(names) == 1


def test_an_estimate_is_labelled():
    """Every output says whether the meter measures."""
    measured = frame_of(closed(many(2)))
    estimate = replace(measured, is_estimate=True)
    assert "(measured)" in text.table(measured, Query())
    assert "ESTIMATE" in text.table(estimate, Query())
    assert json.loads(records.json_line(estimate, Query()))["estimate"] is True
    assert records.csv_lines(estimate, Query()).splitlines()[0].endswith(",1")
