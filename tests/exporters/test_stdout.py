"""The text of an interval, for people and for programs."""

import json
from dataclasses import replace

import numpy as np
from snapshots import Row, node, process, snapshot, view

from kepler_ebpf.exporters.stdout import json_line, table
from kepler_ebpf.model.energy import MeterStats
from kepler_ebpf.model.workloads import State


def test_table_shows_the_nodes_zones() -> None:
    """Each zone of each socket has a line with its power and its total."""
    lines = table(snapshot()).splitlines()
    assert lines[0] == "interval 0.500 s, meter rapl (measured), CPU busy 40.0 %"
    assert "package   1            4.000     1.600     2.400        20.000" in lines
    assert "dram      -            1.000     0.200     0.800         5.000" in lines


def test_table_says_when_figures_are_an_estimate() -> None:
    """A modelled meter is labelled."""
    shown = snapshot()
    stats = replace(shown.stats, meter=MeterStats("estimate", is_estimate=True))
    assert "(estimate)" in table(replace(shown, stats=stats))


def test_table_lists_the_hungriest_processes_first() -> None:
    """The processes that drew most come first, only as many as requested."""
    rows = [Row(process(pid), ran_uj=(pid * 1e5, 0.0)) for pid in (1, 3, 2)]
    lines = table(snapshot(rows), frozenset({"process"}), top=2).splitlines()
    [title] = [line for line in lines if line.startswith("PROCESS")]
    assert title.split() == ["PROCESS", "(3", "of", "3", "ran)", "package", "W", "dram", "W"]
    assert [line.split()[0] for line in lines[lines.index(title) + 1 :]] == ["3", "2"]


def test_table_names_containers_vms_and_pods() -> None:
    """Every level has its own table with names people know."""
    text = table(snapshot())
    for name in ("cccccccccccc web", "vm-1 builder", "retail/shop-0"):
        assert name in text


def test_table_shows_the_chosen_levels_only() -> None:
    """A level that was not chosen has no table."""
    text = table(snapshot(), frozenset({"pod"}))
    assert "POD (1" in text
    assert "PROCESS" not in text
    assert "ZONE" not in text


def test_table_is_safe_for_a_terminal() -> None:
    """Control characters and undecodable bytes in a name do not reach the terminal."""
    text = table(snapshot([Row(process(comm="\x1b[2Jx\ny\udce9"))]))
    assert "?[2Jx?y?" in text


def test_table_counts_what_ended_among_those_that_were_there() -> None:
    """Never do more run than there were, and what has long ended was not there."""
    rows = [
        Row(process(1)),
        Row(process(2), ran_uj=None),
        Row(process(3), state=State.TERMINATED),
        Row(process(4), state=State.TERMINATED, ran_uj=None),
    ]
    assert "PROCESS (2 of 3 ran)" in table(snapshot(rows))


def test_table_shows_no_power_of_a_zone_that_could_not_be_read() -> None:
    """It has a dash, and another zone ranks."""
    rows = [Row(process(1), ran_uj=(0.0, 1e5)), Row(process(2), ran_uj=(0.0, 2e5))]
    shown = replace(snapshot(rows), unread_kinds=frozenset({"package"}))
    lines = table(shown, frozenset({"node", "process"})).splitlines()
    assert "package   1                -         -         -        20.000" in lines
    assert "dram      -            1.000     0.200     0.800         5.000" in lines
    assert [line.split() for line in lines[-2:]] == [
        ["2", "worker", "-", "0.400"],
        ["1", "worker", "-", "0.200"],
    ]


def test_table_without_any_zone_ranks_by_cpu_time() -> None:
    """Without energy there is still a list."""
    rows = [Row(process(1), (), cpu_ns=1, ran_uj=()), Row(process(2), (), cpu_ns=9, ran_uj=())]
    shown = replace(snapshot(), kinds=(), workloads={"process": view(rows, ())})
    lines = table(shown, frozenset({"process"})).splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["2", "1"]


def test_json_line_has_the_node_and_what_ran() -> None:
    """One object holds the zones and every workload that ran, with its labels and figures."""
    rows = [Row(process(7)), Row(process(8), ran_uj=None)]
    line = json_line(snapshot(rows))
    record = json.loads(line)
    assert "\n" not in line
    assert (record["interval_s"], record["meter"], record["estimate"]) == (0.5, "rapl", False)
    assert record["zones"][1] == {
        "zone": "package",
        "socket": 1,
        "path": "/sys/class/powercap/intel-rapl:1",
        "watts": 4.0,
        "active_watts": 1.6,
        "idle_watts": 2.4,
        "unattributed_watts": 0.1,
        "joules": 20.0,
    }
    [shown] = record["processes"]
    assert (shown["pid"], shown["comm"], shown["state"]) == (7, "worker", "running")
    assert shown["watts"] == {"package": 0.5, "dram": 0.1}
    assert shown["joules"] == {"package": 2.0, "dram": 0.5}
    assert shown["cpu_seconds"] == 1.5


def test_json_line_shows_a_process_that_ended_in_the_interval() -> None:
    """What ran and ended is in the line, as terminated."""
    record = json.loads(json_line(snapshot([Row(process(), state=State.TERMINATED)])))
    assert [shown["state"] for shown in record["processes"]] == ["terminated"]


def test_json_line_has_null_for_the_power_of_a_zone_that_could_not_be_read() -> None:
    """What it draws is not known; what it has drawn so far is."""
    shown = replace(snapshot(), unread_kinds=frozenset({"dram"}))
    record = json.loads(json_line(shown))
    *_, dram = record["zones"]
    powers = [dram[name] for name in ("watts", "active_watts", "idle_watts")]
    assert powers == [None, None, None]
    assert dram["joules"] == 5.0
    for level in ("processes", "containers", "vms", "pods", "units"):
        [workload] = record[level]
        assert workload["watts"] == {"package": 0.5, "dram": None}
        assert workload["joules"] == {"package": 2.0, "dram": 0.5}


def test_a_kind_that_never_moved_is_in_no_output() -> None:
    """A counter that stands at 0 since start has neither a line, a column nor a key."""
    still = replace(snapshot(), node=replace(node(), energy_uj=np.array([10e6, 20e6, 0.0])))
    assert "dram" not in table(still)
    assert "dram" not in json_line(still)
    assert "dram" in table(snapshot())


def test_a_socket_that_never_moved_is_in_no_output() -> None:
    """The zones of a kind are listed without the one at 0."""
    still = replace(snapshot(), node=replace(node(), energy_uj=np.array([10e6, 0.0, 5e6])))
    zones = json.loads(json_line(still))["zones"]
    assert [(zone["zone"], zone["socket"]) for zone in zones] == [("package", 0), ("dram", None)]


def test_json_line_is_limited_to_the_levels() -> None:
    """A level that was not chosen is absent, not empty."""
    record = json.loads(json_line(snapshot(), frozenset({"container"})))
    assert record["containers"][0]["container_name"] == "web"
    assert {"processes", "vms", "pods", "zones"}.isdisjoint(record)


def test_json_line_is_ascii_whatever_the_names() -> None:
    """Undecodable bytes become the replacement character."""
    line = json_line(snapshot([Row(process(comm="a\udce9"))]))
    assert json.loads(line)["processes"][0]["comm"] == "a\ufffd"
    assert line.isascii()
