"""A recording attributed anew: the live figures by the live model, the same energy by any."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recordings import HEADER, ZONES, batches_of, write

from kepler_ebpf.attribution import attribute, residual_ratio
from kepler_ebpf.cli import main
from kepler_ebpf.recording.flags import GROUPS, SPLITS, WEIGHTS
from kepler_ebpf.recording.models import Model
from kepler_ebpf.recording.reader import NOT_WHOLE, open_recording
from kepler_ebpf.recording.replay import replayed

MODELS = [Model(split, None, weight) for split in SPLITS for weight in WEIGHTS]
MODELS += [Model(idle_watts={"package": 9.0}), Model(idle_watts={"dram": 1e9}, weight="switches")]
ENERGY, ACTIVE, IDLE, UNOWNED = range(4)


@pytest.fixture
def path(tmp_path):
    """Return the path of a recording."""
    write(tmp_path / "r.arrows", batches_of(5, 10), {0: {"cgroup": {77: {"path": "/x"}}}})
    return tmp_path / "r.arrows"


def replay(*arguments):
    """Run the verb."""
    return CliRunner().invoke(main, ["replay", *map(str, arguments)])


@pytest.mark.parametrize("by", GROUPS)
def test_live_model_gives_the_live_figures(path, by):
    """For the node and for each group; the groups are all that has an owner."""
    found = replayed(open_recording(path), Model(), by)
    live, new = found.node_j
    np.testing.assert_allclose(new, live, rtol=1e-9)
    for _, (one, other) in found.groups.values():
        np.testing.assert_allclose(other, one, rtol=1e-9)
    owned_j = sum(pair for _, pair in found.groups.values())
    np.testing.assert_allclose(owned_j, found.node_j[:, ACTIVE] - found.node_j[:, UNOWNED])
    batches = batches_of(5, 10)
    active_uj = sum(attribute(each, ZONES).active_uj.sum(axis=0) for each in batches)
    np.testing.assert_allclose(live[ACTIVE] * 1e6, [active_uj[0] + active_uj[1], active_uj[2]])
    cpu_ns = sum(int(each.records["cpu_ns"].sum()) for each in batches)
    assert sum(cpu_s for cpu_s, _ in found.groups.values()) == pytest.approx(cpu_ns / 1e9)


@given(seed=st.integers(0, 1000), model=st.sampled_from(MODELS))
def test_every_model_places_all_energy_once(seed, model):
    """No microjoule is lost or made, and no share is negative."""
    (measured,) = batches_of(seed, 1)
    found = model.attribute(measured, ZONES)
    assert residual_ratio(measured, found, ZONES) < 1e-9
    for figures in (found.shares_uj, found.active_uj, found.idle_uj, found.unattributed_uj):
        assert (figures >= -1e-6).all()


def test_split_of_all_leaves_nothing_idle(path):
    """Whoever ran has the idle energy too."""
    found = replayed(open_recording(path), Model(split="all"), "comm")
    assert (found.node_j[1, IDLE] == 0).all()
    assert (found.node_j[1, ACTIVE] > found.node_j[0, ACTIVE]).all()


def test_idle_power_is_idle_energy(path):
    """As long as the zone draws more than that."""
    found = replayed(open_recording(path), Model(idle_watts={"package": 1e-3}), "comm")
    package, dram = found.node_j[1, IDLE]
    assert package == pytest.approx(2 * 1e-3 * found.length_s, rel=1e-6)
    assert dram == 0


def test_weights_share_anew():
    """By switches, each task has its part of those of its interval and socket."""
    (measured,) = batches_of(6, 1)
    found = Model(weight="switches").attribute(measured, ZONES)
    records, interval_of = measured.records, measured.interval_of
    for interval in range(len(measured.intervals)):
        here = (interval_of == interval) & (records["socket"] == 1)
        switches, shares_uj = records["switches"][here], found.shares_uj[here, 0]
        if switches.sum() and shares_uj.sum():
            np.testing.assert_allclose(
                shares_uj / shares_uj.sum(), switches / switches.sum(), rtol=1e-4, atol=1e-4
            )


def test_table_shows_both_and_the_difference(path):
    """Those that differ most come first, and the rest in one row."""
    done = replay(path, "--split", "all", "--by", "comm", "--top", "2")
    assert done.exit_code == 0
    first, header, *rows = done.output.splitlines()
    assert first.startswith("0.5 s from ")
    assert header.split()[-1] == "COMM"
    assert [row.split()[-1] for row in rows[:3]] == ["[energy]", "[active]", "[idle]"]
    assert rows[-1].endswith("[4 more]")
    differences = [abs(float(row.split()[2])) for row in rows[4:6]]
    assert differences == sorted(differences, reverse=True)


def test_json_has_all(path):
    """Each group with each zone, and the node."""
    done = json.loads(replay(path, "--by", "cgroup", "--json").output)
    assert {group["name"] for group in done["groups"]} == {"/x", "/"}
    assert done["groups"][0]["joules"].keys() == {"package", "dram"}
    assert done["node"]["energy"]["package"]["recorded"] > 0
    assert (done["meter"], done["estimate"], done["state"]) == ("rapl", False, "complete")


def test_damaged_recording_has_its_own_status(path):
    """What is whole of it is shown, and what is wrong is said."""
    path.write_bytes(path.read_bytes()[:-9000])
    done = replay(path)
    assert done.exit_code == NOT_WHOLE
    assert "has no end" in done.output
    assert "[active]" in done.output


def test_wrong_zone_is_an_error(path):
    """It names those that there are."""
    for flag, value in (("--zone", "psys"), ("--idle-watts", "psys=1"), ("--idle-watts", "pp")):
        done = replay(path, flag, value)
        assert done.exit_code == 2
        assert flag in done.output
        assert value.partition("=")[0] in done.output
    assert "package, dram" in replay(path, "--zone", "psys").output
    assert replay(path, "--idle-watts", "package=1", "--split", "all").exit_code == 2


def test_estimate_is_labelled(tmp_path):
    """As in every output."""
    header = replace(HEADER, is_estimate=True, meter="estimate")
    write(tmp_path / "r", batches_of(5, 1), header=header)
    assert "estimate" in replay(tmp_path / "r").output
