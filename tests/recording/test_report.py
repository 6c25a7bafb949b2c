"""What a recording has of a range of time: in each form the rows and the rest are the meter's."""

import csv
import io
import json
import sys
from dataclasses import replace
from html import escape
from xml.etree.ElementTree import fromstring

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recordings import BEGAN_NS, HEADER, batches_of, write

from kepler_ebpf.attribution import attribute
from kepler_ebpf.cli import main
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.recording.names import Names
from kepler_ebpf.recording.reader import NOT_WHOLE, Batch
from kepler_ebpf.recording.report import account as module
from kepler_ebpf.recording.report.account import Account, limited
from kepler_ebpf.recording.report.flags import GROUPS
from kepler_ebpf.recording.report.view import Source, View, off_j
from kepler_ebpf.recording.schema import Mark

NAMES = {
    0: {
        "cgroup": {
            77: {
                "path": "/docker/x",
                "container.container_id": "c" * 64,
                "container.container_name": "web",
                "container.runtime": "docker",
                "container.pod_id": "pod-1",
                "pod_id": "pod-1",
                "unit.unit": "web.service",
                "unit.kind": "systemd",
            }
        }
    }
}
BEGAN_S = HEADER.began_s


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the path of a recording of half a second."""
    path = tmp_path_factory.mktemp("recording") / "r.arrows"
    write(path, batches_of(5, 10), NAMES)
    return path


def report(*arguments):
    """Run the verb."""
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def account(batches, by="process", step_s=None, names=None):
    """Return the sums of some batches."""
    adding = Account(HEADER.zones, by, step_s)
    for measured in batches:
        adding.add(measured, np.array([HEADER.at_s(i.usage.end_ns) for i in measured.intervals]))
    return adding.report(names or Names())


def metered_j(batches):
    """Return what the meter has counted, by kind."""
    uj = np.array([i.energy_uj for measured in batches for i in measured.intervals]).sum(axis=0)
    return np.array([uj[0] + uj[1], uj[2]]) / 1e6


def rows_of(text) -> list[dict[str, str]]:
    """Return the lines of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


# --- sums -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", GROUPS)
def test_rows_and_the_rest_are_the_meter(by):
    """By whatever there are rows, in all and in each step, for each zone."""
    batches = batches_of(1, 20)
    found = account(batches, by)
    np.testing.assert_allclose(found.parts.energy_j, metered_j(batches))
    rows_j = sum(row.joules for row in found.rows)
    rest_j = found.parts.no_owner_j + found.parts.idle_j
    np.testing.assert_allclose(rows_j + rest_j, found.parts.energy_j)
    assert sum(row.cpu_s for row in found.rows) == pytest.approx(
        sum(int(each.records["cpu_ns"].sum()) for each in batches) / 1e9
    )
    for step in found.steps:
        rest_j = step.parts.no_owner_j + step.parts.idle_j
        np.testing.assert_allclose(sum(step.rows.values()) + rest_j, step.parts.energy_j)
    steps_j = sum(step.parts.energy_j for step in found.steps)
    np.testing.assert_allclose(steps_j, found.parts.energy_j)


@given(seed=st.integers(0, 99), count=st.integers(1, 60), most=st.integers(2, 9))
def test_bounded_sums_lose_nothing(seed, count, most):
    """With more groups and more steps than are kept, the sums are still those of the meter."""
    batches = batches_of(seed, count, intervals=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_GROUPS", most)
        patch.setattr(module, "MAX_GROUPS_OF_STEP", most)
        patch.setattr(module, "MAX_STEPS", most)
        found = account(batches)
    assert len(found.rows) <= most
    assert len(found.steps) <= most
    rows_j = sum((row.joules for row in found.rows), np.zeros(2))
    rest_j = found.parts.no_owner_j + found.parts.idle_j
    np.testing.assert_allclose(rows_j + rest_j, metered_j(batches))
    np.testing.assert_allclose(sum(step.parts.energy_j for step in found.steps), metered_j(batches))
    assert sum(step.length_s for step in found.steps) == pytest.approx(found.length_s)


def test_what_is_kept_has_most():
    """Of more groups than are kept those with the least energy are summed."""
    batches = batches_of(1, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_GROUPS", 40)
        found = account([_joined(batches)])
    whole = sorted(account(batches).rows, key=lambda row: -row.joules[0])
    kept = {row.title for row in found.rows}
    assert "[others]" in kept
    assert {row.title for row in whole[:20]} <= kept


def _joined(batches) -> Measured:
    counts = np.cumsum([0, *(len(each.intervals) for each in batches)])
    return Measured(
        np.concatenate([each.records for each in batches]),
        np.concatenate([b.interval_of + at for b, at in zip(batches, counts, strict=False)]),
        tuple(interval for each in batches for interval in each.intervals),
    )


@given(st.integers(0, 99), st.floats(-0.02, 0.08), st.floats(-0.02, 0.08))
def test_a_range_is_attributed_as_in_all(seed, since, until):
    """What is left out changes nothing of what is in."""
    (measured,) = batches_of(seed, 1)
    ends_s = np.array([(i.usage.end_ns - BEGAN_NS) / 1e9 for i in measured.intervals])
    part, part_ends_s = limited(Batch(measured, ends_s, Mark()), since, until)
    wanted = (ends_s > since) & (ends_s <= until)
    assert part_ends_s.tolist() == ends_s[wanted].tolist()
    if not wanted.any():
        assert part.intervals == ()
        return
    whole, found = (attribute(each, HEADER.zones) for each in (measured, part))
    is_of = wanted[measured.interval_of]
    np.testing.assert_array_equal(found.shares_uj, whole.shares_uj[is_of])
    np.testing.assert_array_equal(found.idle_uj, whole.idle_uj[wanted])


def test_what_is_off_is_told():
    """A sum that does not add up is not hidden."""
    found = account(batches_of(1, 3))
    source = Source("r", "node", "rapl", is_estimate=False)
    view = View(found, source, "package", None, by_step=False)
    assert off_j(view.sums) == pytest.approx(0, abs=1e-9)
    lost = replace(found, parts=found.parts._replace(energy_j=found.parts.energy_j + 1))
    assert off_j(replace(view, report=lost).sums) == pytest.approx(1)


def test_a_step_has_whole_intervals():
    """Steps are no shorter than the intervals are."""
    long = [
        each._replace(usage=each.usage._replace(start_ns=each.usage.end_ns - 7 * 10**9))
        for each in batches_of(1, 1)[0].intervals
    ]
    found = account([replace(batches_of(1, 1)[0], intervals=tuple(long))])
    assert found.step_s == 10


# --- forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "options"),
    [
        ("package", ("--by", "process", "--top", "2")),
        ("package", ("--by", "container", "--over-time")),
        ("dram", ("--by", "task", "--step", "100ms")),
        ("dram", ("--by", "cgroup")),
    ],
)
def test_each_form_adds_up(path, tmp_path, zone, options):
    """The joules of CSV, of JSON and of Parquet are those of the meter, for the chosen zone."""
    joules = metered_j(batches_of(5, 10)).tolist()[zone == "dram"]
    asked = (path, "--zone", zone, *options)
    rows = rows_of(report(*asked, "--format", "csv").stdout)
    assert sum(float(row["joules"]) for row in rows) == pytest.approx(joules)
    assert {row["zone"] for row in rows} == {zone}
    found = json.loads(report(*asked, "--format", "json").stdout)
    assert sum(row["joules"] for row in found["rows"]) == pytest.approx(joules)
    assert found["zones"][zone]["joules"] == pytest.approx(joules)
    assert report(*asked, "-o", tmp_path / "r.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "r.parquet", page_checksum_verification=True).to_pylist()
    assert sum(row["joules"] for row in table) == pytest.approx(joules)
    assert [row["name"] for row in table] == [row["name"] for row in rows]


def test_no_cell_is_a_formula(tmp_path):
    """A spreadsheet would run it; other forms have the names as they are."""
    (measured,) = batches_of(4, 1)
    names = [b"=1+1", b"+1", b"-1", b"@SUM(1)", b"plain"]
    comms = [names[at % len(names)] for at in range(len(measured.records))]
    measured.records["comm"] = measured.records["process_comm"] = comms
    write(tmp_path / "r", [measured])
    asked = (tmp_path / "r", "--by", "comm", "--format")
    rows = rows_of(report(*asked, "csv").stdout)
    texts = {name.decode() for name in names}
    shown = {f"'{text}" for text in texts - {"plain"}} | {"plain"}
    assert {row["name"] for row in rows if row["row"] == "workload"} == shown
    found = json.loads(report(*asked, "json").stdout)["rows"]
    assert {row["name"] for row in found if row["row"] == "workload"} == texts


def test_rows_are_described(path):
    """A container's row has its id and its pod; what is in none is a row of its own."""
    rows = rows_of(report(path, "--by", "container", "--format", "csv").stdout)
    by_name = {row["name"]: row for row in rows if row["row"] == "workload"}
    assert by_name.keys() == {f"{'c' * 12} web", "[none]"}
    assert by_name[f"{'c' * 12} web"]["container_id"] == "c" * 64
    assert by_name[f"{'c' * 12} web"]["pod_id"] == "pod-1"
    units = rows_of(report(path, "--by", "unit", "--format", "csv").stdout)
    assert ("web.service", "systemd") in {(row["unit"], row["kind"]) for row in units}


def test_text_has_the_sum_and_the_rows(path):
    """People see when it was, the sum, and the highest rows first."""
    done = report(path, "--top", "3")
    lines = done.stdout.splitlines()
    assert "0.5 s in 50 intervals of node node" in lines[0]
    assert "meter rapl (measured), zone package" in lines[1]
    assert "J = 3 rows" in lines[2]
    assert "off by" not in lines[2]
    joules = [float(line.split()[0]) for line in lines[-3:]]
    assert joules == sorted(joules, reverse=True)
    assert done.exit_code == 0


def test_an_estimate_is_labelled(tmp_path):
    """Every form says that nothing was measured."""
    write(tmp_path / "e.arrows", batches_of(1, 2), {}, replace(HEADER, is_estimate=True))
    for form, word in (
        ("text", "ESTIMATE"),
        ("csv", "rapl,1\n"),
        ("json", '"estimate": true'),
        ("html", "All energy is an estimate"),
        ("svg", "ESTIMATE"),
    ):
        assert word in report(tmp_path / "e.arrows", "--format", form).stdout


def test_a_range_has_the_intervals_that_ended_in_it(path):
    """Only the intervals of the time that was asked for are in it."""
    middle = BEGAN_S + 0.25
    whole, early, late = (
        json.loads(report(path, "--format", "json", *options).stdout)
        for options in ((), ("--until", f"@{middle:.3f}"), ("--since", f"@{middle:.3f}"))
    )
    assert early["intervals"] + late["intervals"] == whole["intervals"] == 50
    assert abs(early["intervals"] - 25) <= 1
    both = early["zones"]["package"]["joules"] + late["zones"]["package"]["joules"]
    assert both == pytest.approx(whole["zones"]["package"]["joules"])


# --- damage and bad input ---------------------------------------------------------------------


def test_damage_is_told_and_the_whole_is_read(path, tmp_path):
    """A cut recording has a status of its own, in each form what is whole, and a warning."""
    raw = path.read_bytes()
    (tmp_path / "cut.arrows").write_bytes(raw[: len(raw) * 2 // 3])
    done = report(tmp_path / "cut.arrows", "--format", "json")
    assert done.exit_code == NOT_WHOLE
    assert "has no end" in done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["intervals"] < 50
    assert "has no end" in found["problems"][0]
    assert sum(row["joules"] for row in found["rows"]) == pytest.approx(
        found["zones"]["package"]["joules"]
    )
    assert "has no end" in report(tmp_path / "cut.arrows", "--format", "html").stdout


def test_one_that_is_written_is_read(tmp_path):
    """A recording that goes on is no damage."""
    part = write(tmp_path / "w.arrows", batches_of(1, 3), ends=False)
    done = report(tmp_path / "w.arrows")
    assert (done.exit_code, done.stderr) == (0, "")
    assert part.path.exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--zone", "moon"), 2, "there is no zone 'moon' in the recording"),
        (("--since", "moon"), 2, "want a time such as 10m ago"),
        (("--since", "2020-01-02", "--until", "2020-01-01"), 2, "--since is not before --until"),
        (("--until", "2020-01-01"), 2, "has nothing of that time"),
        (("--step", "1ns"), 2, "want auto, or a duration"),
        (("-o", "x.pdf"), 2, "the form of 'x.pdf' is not known"),
        (("-o", "/nowhere/x.csv"), 3, "cannot write to /nowhere/x.csv"),
        (("--by", "moon"), 2, "'moon' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_named(path, options, status, message):
    """What is wrong is said, with what to do."""
    done = report(path, *options)
    assert done.exit_code == status
    assert message in done.stderr
    assert done.stdout == ""


def test_the_recording_is_not_written_over(path):
    """--output never names the recording itself, whatever the name is."""
    before = path.read_bytes()
    done = report(path, "--format", "csv", "-o", path.parent / "." / path.name)
    assert done.exit_code == 2
    assert "is the recording" in done.stderr
    assert path.read_bytes() == before


def test_more_days_than_steps():
    """A year is shown by day: there is no longer step."""
    adding = Account(HEADER.zones, "comm", None)
    (measured,) = batches_of(1, 1)
    for day in range(module.MAX_STEPS + 10):
        adding.add(measured, BEGAN_S + 86_400 * day + np.arange(5) / 100)
    found = adding.report(Names())
    assert found
    assert (found.step_s, len(found.steps)) == (86_400, module.MAX_STEPS + 10)


def test_too_many_steps_are_refused(path, monkeypatch):
    """A step that would make an endless table is named."""
    monkeypatch.setattr(module, "MAX_STEPS_ASKED_FOR", 3)
    done = report(path, "--step", "10ms")
    assert done.exit_code == 2
    assert "--step 0.01s makes more than 3 steps" in done.stderr


def test_a_missing_extra_is_named(path, monkeypatch):
    """Pictures need matplotlib: the error names what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = report(path, "--format", "png", "-o", "x.png")
    assert done.exit_code == 3
    assert "kepler-ebpf[report]" in done.stderr


def test_strangers_names_are_harmless(tmp_path):
    """No name breaks a line or a form, or moves a terminal's cursor."""
    (measured,) = batches_of(4, 1)
    names = (
        b"\x1b[2J",
        b"a\nb",
        b"$\\frac",
        b"_hidden",
        b"</script>",
        b'"><img',
        b"=1+1",
        b"{{rows}}",
    )
    comms = [names[at % len(names)] for at in range(len(measured.records))]
    measured.records["comm"] = measured.records["process_comm"] = comms
    write(tmp_path / "r.arrows", [measured])
    shown = report(tmp_path / "r.arrows", "--by", "comm").stdout
    assert all(char.isprintable() or char == "\n" for char in shown)
    rows = rows_of(report(tmp_path / "r.arrows", "--format", "csv").stdout)
    found = json.loads(report(tmp_path / "r.arrows", "--format", "json").stdout)
    assert len(rows) == len(found["rows"])
    page = report(tmp_path / "r.arrows", "--by", "comm", "--format", "html").stdout
    assert page.count("</script>") == 2
    assert page.count("<img") == 0
    picture = report(tmp_path / "r.arrows", "--by", "comm", "--format", "svg").stdout
    assert fromstring(picture).tag.endswith("svg")  # noqa: S314  our own
    for name in ("_hidden", "$\\frac", '"><img', "a?b"):
        assert escape(name, quote=False) in picture
