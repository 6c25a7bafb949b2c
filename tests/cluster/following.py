"""A `run` that follows the real cluster, with no other rights than deploy/ gives it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster, Json
from control_plane import NODE
from pods import ids
from running import Page, Run, running

MODES = ("apiserver", "kubelet")

COMPONENTS = {"apiserver": (), "kubelet": ("kubelet",)}
"""Of deploy/kustomize, by the mode that needs them."""

JOULES = "cpu_joules_total"

LISTED = "monitor: {minTerminatedEnergyThreshold: 0, maxTerminated: -1}\n"
"""Ended processes are all listed, so that a container can be held against its own."""


@contextmanager
def following(
    folder: Path, cluster: Cluster, mode: str, *, token: str = "", ca: Path | None = None
) -> Iterator[Run]:
    """Run in either *mode*; the account's token is in the file "token" of *folder*.

    Without another *token* it is a good one, without another *ca* the cluster's is trusted.
    """
    kubeconfig = cluster.kubeconfig(folder, token or cluster.token(), ca)
    config = (
        f"{LISTED}kube: {{podInformer: {{mode: {mode}, pollInterval: 5s}}}}\n"
        f'ebpf: {{podLabels: [app], kubelet: {{host: "{cluster.node.address}"}}}}\n'
    )
    arguments = ("--kube.enable", "--kube.config", str(kubeconfig), "--kube.node-name", NODE)
    with running(folder, "--meter", "fake", *arguments, config=config) as run:
        yield run


def source_up(page: Page) -> bool:
    """Tell whether the source of pods says that it is answered."""
    return page.total("kepler_ebpf_pod_source_up") == 1.0


def failures(page: Page) -> dict[str, int]:
    """Return how often the source of pods failed, by reason."""
    found = page.find("kepler_ebpf_pod_source_errors_total")
    return {each.labels["reason"]: int(each.value) for each in found}


def warnings(run: Run) -> list[str]:
    """Return what it has warned of, but that there is no pod yet."""
    return [
        line
        for line in run.log.splitlines()
        if " warn " in line and "the cluster knows no pod" not in line
    ]


def lists_containers(pod: Json, *fields: str) -> Callable[[Page], bool]:
    """Return what tells whether a page has every container of *pod*, named, in the named pod."""
    statuses = fields or ("containerStatuses",)
    wanted = {named for field in statuses for named in ids(pod, field).items()}
    uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]

    def holds(page: Page) -> bool:
        found = page.find(f"kepler_container_{JOULES}", pod_id=uid)
        named = {(each.labels["container_name"], each.labels["container_id"]) for each in found}
        return wanted <= named and bool(page.find(f"kepler_pod_{JOULES}", pod_name=name))

    return holds


def off(page: Page, pod_id: str) -> float:
    """Return the greatest relative gap between a pod and its containers, the nameless included."""
    gaps = []
    for zone in page.zones():
        joules = page.total(f"kepler_pod_{JOULES}", pod_id=pod_id, zone=zone)
        below = page.total(f"kepler_container_{JOULES}", pod_id=pod_id, zone=zone)
        gaps.append(abs(below - joules) / joules)
    return max(gaps)
