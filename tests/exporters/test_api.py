"""The API: what a snapshot and the last minutes are in JSON, over real sockets."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import bcrypt
import numpy as np
import pytest
from api_servers import ApiServer, api_server
from snapshots import CONTAINER_ID, INTERVAL_S, Row, container, process, snapshot
from top_frames import closed

from kepler_ebpf.config.web import read_web_config
from kepler_ebpf.exporters.api import Asked
from kepler_ebpf.exporters.guard import Guard
from kepler_ebpf.exporters.page import Page
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.workloads import State


@pytest.fixture
def served() -> Iterator[ApiServer]:
    """Serve one interval."""
    with api_server() as server:
        yield server


def three() -> list[Row]:
    """Return processes that differ in each order."""
    return [
        Row(process(100, "alpha"), ran_uj=(300_000.0, 0.0), energy_uj=(1e6, 0.0)),
        Row(process(101, "beta"), ran_uj=(100_000.0, 0.0), energy_uj=(9e6, 0.0)),
        Row(process(102, "Gamma"), ran_uj=(200_000.0, 0.0), energy_uj=(5e6, 0.0)),
        Row(process(103, "sleeper"), ran_uj=None),
    ]


def pids(served: ApiServer, query: str) -> list[int]:
    """Return the pids of the rows that a query of processes gets."""
    level = served.json(f"snapshot?level=process&{query}")["levels"]["process"]
    return [row["pid"] for row in level["rows"]]


def test_snapshot_has_the_node_the_levels_and_ourselves(served: ApiServer) -> None:
    """The schema of the README: each field is there, with the figures of the interval."""
    shown = served.json("snapshot")
    assert {"run", "node", "since_s", "at_s", "interval_s", "meter", "estimate"} < set(shown)
    assert (shown["node"], shown["meter"], shown["estimate"]) == ("node-1", "rapl", False)
    assert [zone["zone"] for zone in shown["zones"]] == ["package", "package", "dram"]
    assert shown["zones"][1]["active_watts"] == 0.8 / INTERVAL_S
    assert shown["own"] == {"cpu_seconds": 16.0, "joules": {"package": 17.0, "dram": 18.0}}
    assert shown["lost"]["cpu_seconds"] == 7.0
    assert shown["lost"]["events"] == 4 + 20 + 23
    assert set(shown["levels"]) == {"process", "container", "vm", "pod", "unit"}
    [row] = shown["levels"]["container"]["rows"]
    assert row["key"] == row["container_id"] == CONTAINER_ID
    assert row["watts"] == {"package": 0.5, "dram": 0.1}
    assert row["joules"] == {"package": 2.0, "dram": 0.5}


def test_rows_and_the_rest_are_the_meters_watts(served: ApiServer) -> None:
    """What is listed, not listed, without an owner and idle adds up to the zone."""
    rows = [Row(process(pid), ran_uj=(float(pid), 1.0)) for pid in range(100, 120)]
    served.publish(closed(rows))
    level = served.json("snapshot?level=process&top=3")["levels"]["process"]
    assert (len(level["rows"]), level["other_rows"], level["found"]) == (3, 17, 20)
    zone = level["zone"]
    parts = sum(watts for name, watts in zone.items() if name not in {"kind", "watts"})
    assert parts == pytest.approx(zone["watts"])
    listed = sum(row["watts"]["package"] for row in level["rows"])
    assert listed == pytest.approx(zone["rows_watts"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [100, 102, 101]),
        ("sort=joules", [101, 102, 100]),
        ("sort=name", [100, 101, 102]),
        ("top=1", [100]),
        ("top=0", []),
        ("filter=gam", [102]),
        ("filter=*a", [100, 102, 101]),
        ("filter=10[12]", []),
        ("filter=nothing", []),
        ("key=101-1", [101]),
        ("key=999-1", []),
    ],
)
def test_a_query_limits_the_rows(query: str, found: list[int], served: ApiServer) -> None:
    """The order, the number, a part of the name and the key choose what is listed."""
    served.publish(snapshot(three()))
    assert pids(served, query) == found


def test_a_key_finds_what_did_not_run(served: ApiServer) -> None:
    """A workload that is asked for by its key is there with 0 W and its totals."""
    served.publish(snapshot(three()))
    shown = served.json("snapshot?level=process&key=103-1")
    [row] = shown["levels"]["process"]["rows"]
    assert (row["comm"], row["watts"]["package"], row["joules"]["package"]) == ("sleeper", 0, 2)


def test_watts_of_a_zone_that_was_not_read_are_null(served: ApiServer) -> None:
    """Unknown power is not 0; what was counted stays."""
    served.publish(replace(snapshot(), unread_kinds=frozenset({"dram"})))
    shown = served.json("snapshot")
    assert [zone["watts"] is None for zone in shown["zones"]] == [False, False, True]
    [row] = shown["levels"]["pod"]["rows"]
    assert row["watts"]["dram"] is None
    assert row["joules"]["dram"] == 0.5


def test_names_of_strangers_are_valid_json(served: ApiServer) -> None:
    """Bytes that are no text, quotes and control characters come through as text."""
    name = 'a"\\\x00\x1b\udcff</script>'
    served.publish(snapshot([Row(process(1, name))]))
    [row] = served.json("snapshot?level=process")["levels"]["process"]["rows"]
    assert row["comm"] == 'a"\\\x00\x1b\ufffd</script>'


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("snapshot?level=planet", "level: want one of process, "),
        ("snapshot?top=-1", "top: want a number from 0 to 1000"),
        ("snapshot?top=1001", "top: want a number"),
        ("snapshot?top=%D9%A1", "top: want a number"),
        ("snapshot?top=" + "9" * 5_000, "top: want a number"),
        ("snapshot?sort=size", "sort: want one of watts, joules, cpu, name"),
        ("snapshot?key=1", "key: want one level"),
        ("snapshot?color=red", "'color' is not a parameter: there are level, zone"),
        ("snapshot?filter=" + "x" * 513, "filter: is too long"),
        ("snapshot?" + "&".join(["level=pod"] * 17), "Max number of fields exceeded"),
        ("history?points=361", "points: want a number from 0 to 360"),
        ("history?level=pod&level=vm", "level: want one"),
        ("history?top=5", "'top' is not a parameter"),
        ("stream?top=many", "top: want a number"),
    ],
)
def test_a_wrong_query_is_a_clear_400(path: str, problem: str, served: ApiServer) -> None:
    """The answer names the parameter and what it may be."""
    status, _, body = served.fetch(f"/api/v1/{path}")
    assert status == 400
    assert body.decode().startswith(f"400 Bad Request: {problem}")


@pytest.mark.parametrize("path", ["snapshot", "stream", "history"])
def test_before_the_first_interval_it_is_503(path: str) -> None:
    """Nothing was measured: the answer says so, and when to come again."""
    served = ApiServer()
    status, headers, body = served.fetch(f"/api/v1/{path}")
    served.server.close()
    assert (status, headers["Retry-After"]) == (503, "1")
    assert b"no interval has been measured" in body


@pytest.mark.parametrize("path", ["/api/v1/snapshot", "/api/v1/history", "/", "/live/live.js"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_what_a_client_has_is_not_sent_again(path: str, encoding: str, served: ApiServer) -> None:
    """Its tag gets 304 without a body, alone, in a list, weak, or as a star."""
    _, headers, body = served.fetch(path, Accept_Encoding=encoding)
    assert body
    tag = headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        status, again, rest = served.fetch(path, Accept_Encoding=encoding, If_None_Match=known)
        assert (status, again["ETag"], rest) == (304, tag, b"")
        assert "Content-Length" not in again  # it would be that of the page
    assert served.fetch(path, Accept_Encoding=encoding, If_None_Match='"other"')[0] == 200


def test_a_new_interval_has_a_new_tag(served: ApiServer) -> None:
    """A poller gets each interval once, and the encodings have tags of their own."""
    _, first, _ = served.fetch("/api/v1/snapshot")
    _, packed, _ = served.fetch("/api/v1/snapshot", Accept_Encoding="gzip")
    served.publish()
    status, second, _ = served.fetch("/api/v1/snapshot", If_None_Match=first["ETag"])
    assert status == 200
    assert len({first["ETag"], packed["ETag"], second["ETag"]}) == 3


def test_readers_of_a_query_share_its_rendering(
    served: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many who read the same of one snapshot cost one rendering."""
    rendered = []
    render = served.api.render

    def counted(whole: Snapshot | None, asked: Asked) -> Page:
        rendered.append(asked)
        return render(whole, asked)

    monkeypatch.setattr(served.api, "render", counted)
    served.publish()
    readers = [
        threading.Thread(target=served.json, args=("snapshot?level=pod",)) for _ in range(12)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(rendered) == 1


@pytest.mark.parametrize(
    "path", ["/", "/live/live.js", "/api/v1/snapshot", "/api/v1/stream", "/api/v1/history", "/x"]
)
def test_who_has_no_password_sees_nothing(path: str, tmp_path: Path) -> None:
    """The API and the page let in whom the metrics let in, and name no path to others."""
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{ada: {bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}}}")
    with ExitStack() as stack:
        guard = Guard(partial(read_web_config, web))
        stack.callback(guard.close)
        served = stack.enter_context(api_server(access=guard))
        status, headers, body = served.fetch(path)
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="kepler-ebpf"')
    assert body == b"401 Unauthorized: a user and a password are needed\n"


def test_history_is_what_was_used_between_snapshots(served: ApiServer) -> None:
    """Each point has its length and the mean watts in it, of the node and of workloads."""
    first = snapshot(three(), at_s=2000.0, end_s=60.0)
    served.publish(first)
    node = first.node
    more = np.array([2e6, 2e6, 0.0])
    used = {f"{part}_uj": getattr(node, f"{part}_uj") + more for part in ("active", "idle")}
    view = first.workloads["process"]
    served.publish(
        replace(
            first,
            at_s=2002.0,
            end_s=62.0,
            node=replace(node, **used),
            workloads={
                **first.workloads,
                "process": replace(
                    view, energy_uj=view.energy_uj + np.array([[1e6, 0], [0, 0], [3e6, 0], [0, 0]])
                ),
            },
        )
    )
    shown = served.json("history?level=process&points=1")
    assert shown["points"] == {"at_s": [2002.0], "length_s": [2.0]}
    assert shown["zones"]["package"]["active_watts"] == [2.0]
    assert shown["zones"]["package"]["idle_watts"] == [2.0]
    assert shown["zones"]["package"]["own_watts"] == [0.0]
    assert shown["zone"] == "package"
    watts = {each["comm"]: each["watts"] for each in shown["workloads"]}
    assert (watts["alpha"], watts["Gamma"]) == ([0.5], [1.5])
    one = served.json("history?level=process&key=102-1")
    assert [each["comm"] for each in one["workloads"]] == ["Gamma"]


def test_history_of_a_container_is_found_by_its_key(served: ApiServer) -> None:
    """Keys are text that any client can put into a URL."""
    odd = "a b&c=d/\u00e9"
    served.publish(snapshot(containers=[Row(container(odd))], end_s=70.0))
    key = quote(odd, safe="")
    [row] = served.json(f"snapshot?level=container&key={key}")["levels"]["container"]["rows"]
    assert row["container_id"] == odd
    history = served.json(f"history?level=container&key={key}")
    assert [each["key"] for each in history["workloads"]] == [odd]


def test_ended_workloads_are_named_so(served: ApiServer) -> None:
    """The state of a row is running or ended, as in `top`, whether it is found by key or not."""
    served.publish(snapshot([Row(process(7), state=State.TERMINATED)]))
    for query in ("", "&key=7-1"):
        level = served.json(f"snapshot?level=process{query}")["levels"]["process"]
        assert [row["state"] for row in level["rows"]] == ["ended"]


def test_json_is_typed_and_not_guessed(served: ApiServer) -> None:
    """A browser takes it as JSON and as nothing else, and keeps it to itself."""
    _, headers, body = served.fetch("/api/v1/snapshot")
    assert json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache, private"
