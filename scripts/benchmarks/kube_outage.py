"""api_outage: what an API server that goes away and comes back does to the intervals."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.cgroup import Cgroup, cgroups
from benchmarks.exporter import Scrape, config_file
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.kube_memory import MODE
from benchmarks.processes import ROOT, group, line_of, tell
from benchmarks.watched import Watch, Window, watched
from kepler_ebpf.model.arrays import Floats

PODS = 500
HALVES = (slice(0, PODS // 2), slice(PODS // 2, PODS))
PACE_S = 0.05
"""A pod is replaced so often: a half of them in less than the outage."""

SETTLE_S = 5.0
UP_S = 20.0
OUTAGE_S = 600.0
LATE_MS = 5.0
INTERVAL = ("--interval", "100ms")

SERVER = """
import json, sys, time
from pathlib import Path
from kube_certificates import write_kubeconfig
from kube_server import NODE, container_id, make_pod, serving, wait_until

count, give_up_s = int(sys.argv[2]), 120
pods = [make_pod(number) for number in range(2 * count)]
uids = [pod["metadata"]["uid"] for pod in pods]

def replace(first, end, pace_s):
    for number in range(int(first), int(end)):
        server.remove(uids[number])
        server.put(pods[count + number])
        time.sleep(float(pace_s))

def start():
    before = len(server.seen("list"))
    server.start()
    wait_until(lambda: len(server.seen("list")) > before, give_up_s)

with serving() as server:
    for pod in pods[:count]:
        server.put(pod)
    write_kubeconfig(Path(sys.argv[1]), server.url)
    print(json.dumps([NODE, [[uid, container_id(at)] for at, uid in enumerate(uids)]]), flush=True)
    calls = {"stop": server.stop, "compact": server.compact, "start": start, "replace": replace}
    for line in sys.stdin:
        name, *arguments = line.split()
        calls[name](*arguments)
        print("done", flush=True)
"""
"""An API server that does what it reads, line by line, and says when that is done.

It first says its node, and the uid and a container of each pod: of those that it begins with, and
then of those that replace them, in the same order. It has started when it was asked for a list.
"""

CONTAINERS = """
pace_s=$0
for directory; do
    sh -c 'echo $$ >"$0/cgroup.procs" && exec sleep 900' "$directory" &
    sleep "$pace_s"
done
echo started
wait
"""
"""Starts a process in each of these cgroups."""


class Cluster:
    """The API server, and the containers of the node's pods, which run here."""

    def __init__(self, stack: ExitStack) -> None:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-"))
        kubeconfig = str(Path(directory, "kubeconfig"))
        command = [sys.executable, "-c", SERVER, kubeconfig, f"{PODS}"]
        environ = {"PYTHONPATH": str(ROOT / "tests" / "support")}
        made = stack.enter_context(cgroups())
        self._stack = stack
        self._server = stack.enter_context(group(command, environ))
        node, containers = json.loads(self._line())
        self._cgroups = [made.make(f"kubepods/pod{uid}/{id_}") for uid, id_ in containers]
        self._halves = [stack.enter_context(ExitStack()) for _ in HALVES]
        for half, which in zip(self._halves, HALVES, strict=True):
            _await_started(half.enter_context(_containers(self._cgroups[which], 0.0)))
        config = stack.enter_context(config_file(MODE))
        self.new_uids = [uid for uid, _ in containers[PODS:]]
        whom = ("--kube.config", kubeconfig, "--kube.node-name", node)
        self.arguments = ("--kube.enable", *whom, "--config.file", config)

    def do(self, *command: object) -> None:
        """Have the API server do that, and wait until it has."""
        tell(self._server, f"{' '.join(map(str, command))}\n")
        self._line()

    def replace(self, number: int) -> None:
        """Have a half of the pods end, and others start one by one."""
        which = HALVES[number]
        self._halves[number].close()
        for cgroup in self._cgroups[which]:
            cgroup.remove()
        begun = self._cgroups[PODS:][which]
        process = self._stack.enter_context(_containers(begun, PACE_S))
        self.do("replace", which.start, which.stop, PACE_S)
        _await_started(process)

    def _line(self) -> str:
        line = line_of(self._server)
        if not line:
            raise RuntimeError("the Kubernetes server of the tests has ended")
        return line


class Course:
    """What happens to the API, and how long it took until it was asked again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.asked_again_s = 0.0

    def up(self) -> None:
        """Nothing happens."""
        time.sleep(UP_S)

    def down(self) -> None:
        """The API goes away, and a half of the pods is replaced; the history of it is lost."""
        until_s = time.monotonic() + OUTAGE_S
        self._cluster.do("stop")
        self._cluster.replace(0)
        self._cluster.do("compact")
        time.sleep(max(0.0, until_s - time.monotonic()))

    def recovery(self) -> None:
        """It comes back, all pods are listed, and the other half is replaced under the watch."""
        began_s = time.monotonic()
        self._cluster.do("start")
        self.asked_again_s = time.monotonic() - began_s
        self._cluster.replace(1)
        time.sleep(SETTLE_S)


def measure() -> Iterator[Figure]:
    """Run with and without Kubernetes side by side, so that what else happens meets both.

    An interval is late because of the API where the loop had a CPU and not the interpreter.
    """
    with ExitStack() as stack:
        cluster = Cluster(stack)
        without = stack.enter_context(watched("hindrance", *INTERVAL))
        watch = stack.enter_context(watched("hindrance", *INTERVAL, *cluster.arguments))
        time.sleep(SETTLE_S)
        course = Course(cluster)
        phases: list[Callable[[], None]] = [course.up, course.down, course.recovery]
        windows = {phase.__name__: watch.during(phase) for phase in phases}
        named = _named(watch.exporter.scrape(), cluster.new_uids)
        late_ms = {name: _late_ms(watch, window) for name, window in windows.items()}
        usual_ms = {name: _late_ms(without, window) for name, window in windows.items()}
    value = max(float(each.max()) for each in late_ms.values())
    details: Details = {
        "outage": f"{OUTAGE_S:g} s of real time, in which the client's back-off grows",
        "pods_replaced": PODS,
        "named_after_recovery": named,
        "asked_again_after_s": rounded(course.asked_again_s),
        **{name: _phase(windows[name], late_ms[name], usual_ms[name]) for name in windows},
    }
    yield Figure("api_outage", value, "ms", Bar(LATE_MS), details, also=named == PODS)


def _phase(window: Window, late_ms: Floats, usual_ms: Floats) -> Details:
    return {
        "intervals": len(late_ms),
        "share": rounded(window.share),
        "late_p99_ms": rounded(_p99(late_ms)),
        "late_max_ms": rounded(float(late_ms.max())),
        "over_5_ms": int(np.sum(late_ms > LATE_MS)),
        "without_p99_ms": rounded(_p99(usual_ms)),
        "without_max_ms": rounded(float(usual_ms.max())),
        "without_over_5_ms": int(np.sum(usual_ms > LATE_MS)),
    }


def _p99(late_ms: Floats) -> float:
    return float(np.percentile(late_ms, 99))


def _late_ms(watch: Watch, window: Window) -> Floats:
    return np.array(watch.numbers(window)) * 1000


def _named(page: Scrape, uids: Sequence[str]) -> int:
    """How many of these pods have joules under their name."""
    samples = page.of("kepler_pod_cpu_joules_total")
    named = {labels["pod_id"] for labels, _ in samples if labels["pod_name"]}
    return len(named.intersection(uids))


@contextmanager
def _containers(begun: Sequence[Cgroup], pace_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process in each of these cgroups, one started after the other."""
    directories = [str(cgroup.directory) for cgroup in begun]
    with group(["sh", "-c", CONTAINERS, f"{pace_s:g}", *directories]) as process:
        yield process


def _await_started(process: subprocess.Popen[str]) -> None:
    if not line_of(process):
        raise RuntimeError("the processes of the containers did not start")
