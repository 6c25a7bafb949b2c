"""The Grafana dashboards: each query against a real Prometheus that scrapes a real run.

Time is squeezed: what the rules and the panels look at over minutes they look at over seconds here.
"""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from cgroup_tree import cgroup_tree, hierarchies
from kube_certificates import write_kubeconfig
from kube_server import NODE, container_id, make_pod, serving
from manifests import DEPLOY, JOB, Json
from processes import SHELL
from running import GIVE_UP_S, Run, running

from kepler_ebpf.exporters.catalog import METRICS
from kepler_ebpf.exporters.metric import ALWAYS

FILES = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

SQUEEZED = {
    "[5m]": "[10s]",
    "[285s]": "[9500ms]",
    "[15m]": "[30s]",
    "[55m]": "[18s]",
    "[1h]": "[20s]",
    "[3585s]": "[19500ms]",
    "offset 30s": "offset 1s",
    "offset 1m": "offset 2s",
    "interval: 30s": "interval: 1s",
    "$__rate_interval": "10s",
    "$__range": "20s",
}

CONFIG = """
monitor: {minTerminatedEnergyThreshold: 0}
kube: {podInformer: {mode: apiserver}}
"""

PAUSE = "f" * 64
"""The id of a container that the API does not list, as that which holds a pod's namespaces."""

BUSY = "while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05; done"
"""Work that never ends, and short-lived processes beside it."""

STARTING = 503
"""What Prometheus answers until it has read its storage."""

SETTLED_S = 60.0
"""How long a query may stay without data before the test fails; it takes about 15."""


def squeezed(text: str) -> str:
    """Return an expression or a rule file with its minutes made seconds."""
    for long, short in SQUEEZED.items():
        text = text.replace(long, short)
    return text


def chosen(query: str) -> str:
    """Return a panel's query as Grafana sends it with the zone package and all of the rest."""
    return re.sub(r"\$\w+", ".*", squeezed(query).replace("$zone", "package"))


def panels() -> Iterator[tuple[str, Json]]:
    """Yield (dashboard, panel) of all panels with queries."""
    for path in FILES:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield path.stem, panel


def queries() -> dict[str, str]:
    """Return every query by dashboard, panel and letter; those behind the variables too."""
    found = {
        f"{name} / {panel['title']} / {target['refId']}": target["expr"]
        for name, panel in panels()
        for target in panel["targets"]
    }
    for path in FILES:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(  # type: ignore[union-attr]
                    r"label_values\((.*), (\w+)\)", variable["definition"]
                ).groups()
                # A series without the label is no choice.
                found[f"{path.stem} / ${variable['name']}"] = (
                    f"group by ({label}) ({metric}) unless group by ({label}) (vector(1))"
                )
    return found


@contextmanager
def busy(*arguments: str, shell: str = SHELL) -> Iterator[int]:
    """Run a *shell* that is busy all the time, and give its pid."""
    process = subprocess.Popen([shell, "-c", BUSY, *arguments])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def populated_run(folder: Path) -> Iterator[Run]:
    """Run beside a pod that the API names, a virtual machine and processes that come and go."""
    with ExitStack() as stack:
        pod = make_pod(1)
        server = stack.enter_context(serving())
        server.put(pod)
        tree = stack.enter_context(cgroup_tree(hierarchies()[0]))
        uid = pod["metadata"]["uid"]
        cgroup = tree.make(f"/kubepods/burstable/pod{uid}/{container_id(1)}")
        cgroup.enter(stack.enter_context(busy()))
        tree.make(f"/kubepods/burstable/pod{uid}/{PAUSE}").enter(stack.enter_context(busy()))
        machine = ("-name", "guest=builder", "-uuid", "22222222-2222-3333-4444-555555555555")
        hypervisor = shutil.copy(SHELL, folder / "qemu-system-x86_64")
        stack.enter_context(busy(*machine, shell=str(hypervisor)))
        yield stack.enter_context(
            running(
                folder,
                *("--interval", "200ms", "--bpf-stats", "--kube.enable"),
                *("--kube.config", write_kubeconfig(folder / "kubeconfig", server.url)),
                *("--kube.node-name", NODE),
                config=CONFIG,
            )
        )


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Scrape *target* each second with the shipped rules, and give Prometheus' address."""
    rules = folder / "rules"
    shutil.copytree(DEPLOY / "prometheus" / "rules", rules)
    for path in rules.iterdir():
        path.write_text(squeezed(path.read_text()))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{rules}/*.yaml"],
        "scrape_configs": [
            {"job_name": JOB, "static_configs": [{"targets": [target]}]},
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--config.file={folder}/prometheus.yaml"),
        *(f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"),
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
        assert process.poll() is None, (folder / "prometheus.log").read_text()
    finally:
        process.terminate()
        process.wait(GIVE_UP_S)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(server: str, query: str) -> list[Json]:
    """Ask Prometheus; a query it refuses fails the test. Nothing while it still starts."""
    url = f"{server}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=GIVE_UP_S) as response:  # noqa: S310 - ours
            return list(json.load(response)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code != STARTING:
            pytest.fail(f"{query}: {error.read().decode()}")
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionError):
            raise
    return []


def test_every_query_returns_data(tmp_path: Path) -> None:
    """No panel stays empty on a host with a pod, a virtual machine and ended processes.

    And no panel of the Node dashboard shows a node that was not chosen, none a pause container.
    """
    waiting = {name: chosen(query) for name, query in queries().items()}
    with populated_run(tmp_path) as run, prometheus(tmp_path, run.address) as server:
        give_up_at = time.monotonic() + SETTLED_S
        while waiting and time.monotonic() < give_up_at:
            time.sleep(1)
            waiting = {name: query for name, query in waiting.items() if not answer(server, query)}
        assert answer(server, f'kepler_container_cpu_watts{{container_name="{PAUSE[:12]}"}}')
        for name, query in queries().items():
            if name.startswith("node / ") and "/ $" not in name:
                assert answer(server, chosen(query.replace("$node", "another"))) == [], name
            if "container_name" in query:
                shown = {each["metric"]["container_name"] for each in answer(server, chosen(query))}
                assert PAUSE[:12] not in shown, name
    assert waiting == {}


def test_every_figure_about_ourselves_is_shown() -> None:
    """What we count of our own work and its faults is on some dashboard."""
    asked = " ".join(queries().values())
    for metric in METRICS:
        if metric.level == ALWAYS:
            assert metric.name in asked


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_fill_the_grid_without_overlap(path: Path) -> None:
    """No two panels share a cell of Grafana's grid, none is wider than it, ids are unique."""
    found = json.loads(path.read_text())["panels"]
    cells = [
        (x, y)
        for cell in (panel["gridPos"] for panel in found)
        for x in range(cell["x"], cell["x"] + cell["w"])
        for y in range(cell["y"], cell["y"] + cell["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in found}) == len(found)


def test_dashboards_use_the_chosen_data_source() -> None:
    """Every query goes to the Prometheus that is chosen above; nothing is wired to one."""
    for name, panel in panels():
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}", name


def test_variables_are_declared() -> None:
    """Each $name in a query is Grafana's own or a choice that the dashboard offers."""
    for path in FILES:
        board = json.loads(path.read_text())
        offered = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(board["panels"])))
        assert used <= offered, path.stem


def test_every_zone_query_is_of_one_zone() -> None:
    """Zones overlap, so a sum over workloads or nodes must choose one or keep them apart."""
    for name, panel in panels():
        for target in panel["targets"]:
            metrics = re.findall(r"\w*kepler_\w*(?:joules|watts)\w*(?:\{[^}]*\})?", target["expr"])
            kept = re.search(r"by \([^)]*zone", target["expr"])
            for metric in metrics:
                assert kept or 'zone="$zone"' in metric, f"{name} / {panel['title']}: {metric}"
