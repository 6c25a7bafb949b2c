"""The figures on standard output."""

import io
import json
from dataclasses import replace

from snapshots import Row, container, process, snapshot, view

from kepler_ebpf.exporters.stdout import StdoutExporter, json_line, table
from kepler_ebpf.model import State


def test_table_shows_the_nodes_zones() -> None:
    """Each zone of each socket has a line with its power and its total."""
    lines = table(snapshot()).splitlines()
    assert lines[0] == "interval 0.500 s, meter rapl (measured), CPU busy 40.0 %"
    assert "package   1            4.000     1.600     2.400        20.000" in lines
    assert "dram      -            1.000     0.200     0.800         5.000" in lines


def test_table_says_when_figures_are_an_estimate() -> None:
    """A modelled meter is labelled."""
    shown = snapshot()
    shown = replace(shown, health=replace(shown.health, meter_is_estimate=True))
    assert "(estimate)" in table(shown)


def test_table_lists_the_hungriest_processes_first() -> None:
    """The processes that drew most come first, only as many as asked for."""
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
    """A level that was not asked for has no table."""
    text = table(snapshot(), frozenset({"pod"}))
    assert "POD (1" in text
    assert "PROCESS" not in text
    assert "ZONE" not in text


def test_table_is_safe_for_a_terminal() -> None:
    """Control characters and undecodable bytes in a name do not reach the terminal."""
    text = table(snapshot([Row(process(comm="\x1b[2Jx\ny\udce9"))]))
    assert "?[2Jx?y?" in text


def test_table_without_any_zone_ranks_by_cpu_time() -> None:
    """Without energy there is still a list."""
    rows = [Row(process(1), (), cpu_ns=1, ran_uj=()), Row(process(2), (), cpu_ns=9, ran_uj=())]
    shown = replace(snapshot(), kinds=(), processes=view(rows, ()))
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


def test_json_line_is_limited_to_the_levels() -> None:
    """A level that was not asked for is absent, not empty."""
    record = json.loads(json_line(snapshot(), frozenset({"container"})))
    assert record["containers"][0]["container_name"] == "web"
    assert {"processes", "vms", "pods", "zones"}.isdisjoint(record)


def test_json_line_is_ascii_whatever_the_names() -> None:
    """Undecodable bytes become the replacement character."""
    line = json_line(snapshot([Row(process(comm="a\udce9"))]))
    assert json.loads(line)["processes"][0]["comm"] == "a\ufffd"
    assert line.isascii()


def test_exporter_writes_one_line_of_json_for_each_snapshot() -> None:
    """JSON lines are one object a line, whole after each snapshot."""
    stream = io.StringIO()
    exporter = StdoutExporter(stream, "jsonl")
    exporter.publish(snapshot())
    exporter.publish(snapshot(at_s=2.0))
    assert [json.loads(line)["at_s"] for line in stream.getvalue().splitlines()] == [1e6, 2.0]


def test_exporter_writes_tables_apart() -> None:
    """Tables are divided by an empty line and limited as asked."""
    stream = io.StringIO()
    exporter = StdoutExporter(stream, levels=frozenset({"container"}), top=0)
    exporter.publish(snapshot(containers=[Row(container())]))
    assert stream.getvalue().endswith("dram W\n\n")
