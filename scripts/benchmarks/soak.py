"""soak: resident memory over many short intervals beside workloads that come and go.

Each interval is checked: a zone is active + idle, the processes are no more than the active part,
attribution loses nothing, and no total falls.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.exporter import config_file, running
from benchmarks.figure import Bar, Figure, rounded
from benchmarks.length import scaled
from benchmarks.processes import END_S, ROOT, group, working

INTERVALS = 100_000
INTERVAL_S = 0.01
WARM_UP = 0.3
"""Part of the intervals in which the memory may grow."""

RSS_EVERY = 100
TOLERANCE = 1e-9
STARTS_PER_S, LIFE_S = 20, 0.3
CONFIG = "kube: {podInformer: {mode: apiserver}}\n"
LEVELS = ("processes", "containers", "pods")

CHURN = """
import signal, subprocess, sys, time
from pathlib import Path
from cgroup_tree import cgroup_tree, hierarchies
from kube_certificates import write_kubeconfig
from kube_runs import first_cgroup
from kube_server import NODE, make_pod, serving

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with serving() as server, cgroup_tree(hierarchies()[0], "-soak") as tree:
    write_kubeconfig(Path(sys.argv[1]), server.url)
    print(NODE, flush=True)
    old = []
    try:
        for number in range(10**9):
            pod = make_pod(number)
            server.put(pod)
            cgroup = first_cgroup(tree, number)
            process = subprocess.Popen(["sh", "-c", "read _"], stdin=subprocess.PIPE)
            old.append((pod, cgroup, process))
            cgroup.enter(process.pid)
            if len(old) > 10:
                pod, cgroup, process = old.pop(0)
                process.communicate()
                server.remove(pod["metadata"]["uid"])
                cgroup.remove()
                cgroup.directory.parent.rmdir()
            if number % 100 == 0:
                server.compact()
                server.state.seen.clear()
            time.sleep(0.1)
    finally:
        for _, _, process in old:
            process.communicate()
"""
"""Ten pods and their containers a second come, and go a second later."""


@dataclass
class Checked:
    """What the intervals had that they must not have, each with a count."""

    intervals: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    fallen: list[str] = field(default_factory=list)
    _totals: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Check one interval."""
        record: dict[str, Any] = json.loads(line)
        self.intervals += 1
        self._note("residual", record["residual_ratio"] > TOLERANCE)
        for zone in record["zones"]:
            watts, active, idle = (zone[f"{part}watts"] for part in ("", "active_", "idle_"))
            self._note("active + idle", abs(watts - active - idle) > TOLERANCE * watts)
            given = sum(each["watts"][zone["zone"]] for each in record["processes"])
            self._note("processes", given > active * (1 + TOLERANCE))
            self._total("zone", zone["path"], zone["zone"], zone["joules"])
        for level in LEVELS:
            for each in record.get(level, ()):
                self._check_totals(level, each)

    def _check_totals(self, level: str, record: dict[str, Any]) -> None:
        label = repr([value for key, value in record.items() if key not in FIGURES])
        for kind, joules in record["joules"].items():
            self._total(level, label, kind, joules)

    def _total(self, level: str, label: str, kind: str, joules: float) -> None:
        # A workload that is forgotten and comes again under its labels begins anew.
        key = (level, label, kind)
        before = self._totals.get(key, 0.0)
        self._note("falls", joules < before)
        if joules < before and len(self.fallen) < MAX_EXAMPLES:
            self.fallen.append(f"{' '.join(key)}: {before} to {joules} in {self.intervals}")
        self._totals[key] = joules
        if len(self._totals) > MAX_TOTALS:
            del self._totals[next(iter(self._totals))]

    def _note(self, law: str, is_broken: bool) -> None:
        if is_broken:
            self.faults[law] = self.faults.get(law, 0) + 1


FIGURES = frozenset({"state", "watts", "joules", "cpu_seconds"})
MAX_TOTALS = 100_000
MAX_EXAMPLES = 10


def measure() -> Iterator[Figure]:
    """Run at 100 intervals a second; compare the memory after the warm-up with its least."""
    wanted = int(scaled(INTERVALS))
    with ExitStack() as stack:
        exporter = stack.enter_context(running(*_arguments(stack)))
        stack.enter_context(working("starts", STARTS_PER_S, LIFE_S))
        began_s, checked, rss_mb = time.monotonic(), Checked(), []
        for line in exporter.lines():
            checked.take(line)
            if checked.intervals % RSS_EVERY == 0:
                rss_mb.append(exporter.memory().rss_mb)
            if checked.intervals >= wanted:
                break
        page = exporter.scrape()
    after = rss_mb[int(len(rss_mb) * WARM_UP) :]
    growth = 100 * (max(after) / after[0] - 1)
    details = {
        "intervals": checked.intervals,
        "seconds": rounded(time.monotonic() - began_s),
        "interval_s": INTERVAL_S,
        "broken_laws": checked.faults,
        "fallen": checked.fallen,
        "rss_mb_at_warm_up": rounded(after[0]),
        "rss_mb_max": rounded(max(after)),
        "rss_mb_last": rounded(after[-1]),
        "missed_ticks": page.total("kepler_ebpf_missed_ticks_total"),
        "not_printed": page.total("kepler_ebpf_stdout_dropped_total"),
        "failed_intervals": page.total("kepler_ebpf_failed_intervals_total"),
    }
    yield Figure("soak", growth, "% more memory", Bar(5), details, also=not checked.faults)


def _arguments(stack: ExitStack) -> tuple[str, ...]:
    """Start the churn, and return the arguments of the exporter beside it."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-"))
    kubeconfig = str(Path(folder, "kubeconfig"))
    environ = {"PYTHONPATH": f"{ROOT / 'tests' / 'support'}:{ROOT}"}
    churn = stack.enter_context(group([sys.executable, "-c", CHURN, kubeconfig], environ))
    stack.callback(churn.wait, END_S)
    stack.callback(churn.terminate)
    node = churn.stdout.readline().strip() if churn.stdout else ""
    if not node:
        raise RuntimeError("the churn of pods did not start")
    config = stack.enter_context(config_file(CONFIG))
    return (
        *("--meter", "fake", "--interval", f"{INTERVAL_S * 1000:g}ms"),
        *("--terminated-retention", "5s", "--exporter.stdout", "--stdout-format", "jsonl"),
        *("--kube.enable", "--kube.config", kubeconfig, "--kube.node-name", node),
        *("--config.file", config),
    )
