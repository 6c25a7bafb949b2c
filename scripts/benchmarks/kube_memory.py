"""k8s_rss_mb: what following the node's pods adds to the resident memory."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.cgroup import cgroups
from benchmarks.exporter import Memory, Scrape, config_file, running
from benchmarks.figure import Bar, Details, Figure, rounded
from benchmarks.processes import ROOT, group, load

PODS = 110
"""As many as a kubelet runs by default."""

SECONDS = 20
SERVER = """
import signal, sys
from pathlib import Path
from kube_certificates import write_kubeconfig
from kube_server import NODE, container_id, make_pod, serving

with serving() as server:
    for number in range(int(sys.argv[2])):
        server.put(make_pod(number))
    write_kubeconfig(Path(sys.argv[1]), server.url)
    uid = make_pod(1)["metadata"]["uid"]
    print(NODE, uid, container_id(1), flush=True)
    signal.pause()
"""
"""Serves the node's pods as an API server does; says its node, and one pod and container of it."""

MODE = "kube: {podInformer: {mode: apiserver}}\n"


def measure() -> Iterator[Figure]:
    """Run without and with Kubernetes beside the same container of a pod."""
    with _server() as (arguments, path), cgroups() as made, load("duty", 10) as started:
        made.make(path).enter(started.pid)
        started.go()
        without, _ = _run()
        with_pods, page = _run(*arguments)
    named = any(labels["pod_name"] for labels, _ in page.of("kepler_pod_cpu_joules_total"))
    details: Details = {
        "pods": PODS,
        "mode": "apiserver",
        "pod_was_named": named,
        "without_rss_mb": rounded(without.rss_mb),
        "with_rss_mb": rounded(with_pods.rss_mb),
        "more_pss_mb": rounded(with_pods.pss_mb - without.pss_mb),
    }
    value = with_pods.rss_mb - without.rss_mb
    yield Figure("k8s_rss_mb", value, "MB", Bar(45), details, also=named)


def _run(*arguments: str) -> tuple[Memory, Scrape]:
    with running("--interval", "1s", *arguments) as exporter:
        time.sleep(SECONDS)
        return exporter.memory(), exporter.scrape()


@contextmanager
def _server() -> Iterator[tuple[tuple[str, ...], str]]:
    """Give the arguments that make the exporter ask it, and the cgroup path of a container."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="kepler-ebpf-bench-"))
        config, kubeconfig = stack.enter_context(config_file(MODE)), Path(directory, "kubeconfig")
        command = [sys.executable, "-c", SERVER, str(kubeconfig), f"{PODS}"]
        environ = {"PYTHONPATH": str(ROOT / "tests" / "support")}
        server = stack.enter_context(group(command, environ))
        said = server.stdout.readline().split() if server.stdout else []
        if not said:
            raise RuntimeError("the Kubernetes server of the tests did not start")
        node, uid, container = said
        arguments = ("--kube.enable", "--kube.config", str(kubeconfig), "--kube.node-name", node)
        yield (*arguments, "--config.file", config), f"kubepods/pod{uid}/{container}"
