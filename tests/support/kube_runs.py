"""A `run` beside a Kubernetes server of the tests, and cgroups as a kubelet makes them."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgroup_tree import Cgroup, CgroupTree
from kube_certificates import make_certificate, write_kubeconfig
from kube_server import NODE, Json, KubeServer, container_id, make_pod, serving, status
from running import GIVE_UP_S, Page, Run

MODES = ("apiserver", "kubelet")

JOULES, SECONDS = "cpu_joules_total", "cpu_seconds_total"


@dataclass(frozen=True)
class Cluster:
    """A server with the arguments and the configuration that let a `run` ask it."""

    server: KubeServer
    mode: str
    arguments: tuple[str, ...]
    config: str

    @property
    def kind(self) -> str:
        """The kind of request that brings all pods (see ``KubeServer.answer_next``)."""
        return "list" if self.mode == "apiserver" else "pods"


@contextmanager
def cluster(folder: Path, mode: str, more: str = "") -> Iterator[Cluster]:
    """Serve pods over TLS in either *mode*; *more* are keys below ``ebpf:``."""
    certificate = make_certificate(folder / "tls")
    with serving(certificate) as server:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", server.url, certificate.ca)
        arguments = ("--kube.enable", "--kube.config", kubeconfig, "--kube.node-name", NODE)
        yield Cluster(server, mode, ("--meter", "fake", *arguments), _config(server, mode, more))


def _config(server: KubeServer, mode: str, more: str) -> str:
    address = server.url.removeprefix("https://")
    return (
        f"kube: {{podInformer: {{mode: {mode}, pollInterval: 1s}}}}\n"
        f'ebpf: {{kubelet: {{host: "{address}"}}, podLabels: [app, team, "a.io/b"]{more}}}\n'
    )


@contextmanager
def silent(server: KubeServer) -> Iterator[None]:
    """Take every request and answer none; one is waiting for its answer from the start."""
    asked, over = threading.Event(), threading.Event()

    def hold(handler: Any) -> None:
        asked.set()
        over.wait(GIVE_UP_S)
        status(500)(handler)

    for kind in ("list", "watch", "pods"):
        server.answer_next(kind, *[hold] * 100)
    server.end_watches()
    assert asked.wait(GIVE_UP_S), "nothing was asked"
    yield
    server.state.next_answers.clear()
    over.set()


# --- pods and their cgroups -------------------------------------------------------------------


def cgroupfs(uid: str, id_: str) -> str:
    """Return the path of a container with the kubelet's cgroupfs driver."""
    return f"/kubepods/burstable/pod{uid}/{id_}"


def systemd(uid: str, id_: str) -> str:
    """Return the path of a container with the kubelet's systemd driver and containerd."""
    pod = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    return f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{id_}.scope"


DRIVERS = {"cgroupfs": cgroupfs, "systemd": systemd}


def uid_of(pod: Json) -> str:
    """Return the uid the API gave the pod."""
    return str(pod["metadata"]["uid"])


def named(number: int, **metadata: object) -> Json:
    """Return pod *number* with other *metadata*."""
    pod = make_pod(number)
    pod["metadata"] |= metadata
    return pod


def with_first_id(pod: Json, id_: str) -> Json:
    """Return *pod* with its first container under another id."""
    changed = copy.deepcopy(pod)
    changed["status"]["containerStatuses"][0]["containerID"] = f"containerd://{id_}"
    return changed


def first_cgroup(tree: CgroupTree, number: int) -> Cgroup:
    """Make the cgroup of the first container ("web") of ``make_pod(number)``."""
    return tree.make(cgroupfs(uid_of(make_pod(number)), container_id(number)))


# --- what a page says -------------------------------------------------------------------------


def pod_names(page: Page, uid: str) -> set[str]:
    """Return the names that the pod is listed under, "" for none."""
    return {each.labels["pod_name"] for each in page.find(f"kepler_pod_{JOULES}", pod_id=uid)}


def container_names(page: Page, **labels: str) -> set[str]:
    """Return the names of the containers with these labels."""
    return {
        each.labels["container_name"] for each in page.find(f"kepler_container_{JOULES}", **labels)
    }


def source_up(page: Page) -> bool:
    """Tell whether the source of pods says that it is answered."""
    return page.total("kepler_ebpf_pod_source_up") == 1.0


def synced_s(page: Page) -> float:
    """Return when the source last heard from its server."""
    return page.total("kepler_ebpf_pod_source_last_sync_timestamp_seconds")


def off(page: Page, uid: str) -> float:
    """Return the greatest relative gap between a pod, its containers and their processes."""
    gaps = [
        abs(below - joules) / joules
        for zone in page.zones()
        for joules in [page.total(f"kepler_pod_{JOULES}", pod_id=uid, zone=zone)]
        for below in _levels_below(page, uid, zone)
    ]
    return max(gaps)


def _levels_below(page: Page, pod_id: str, zone: str) -> tuple[float, float]:
    containers = page.find(f"kepler_container_{JOULES}", pod_id=pod_id, zone=zone)
    ids = {each.labels["container_id"] for each in containers}
    processes = sum(
        page.total(f"kepler_process_{JOULES}", container_id=id_, zone=zone) for id_ in ids
    )
    return sum(each.value for each in containers), processes


def heard_again(run: Run, cluster_: Cluster) -> Page:
    """Return a page from after the source has taken in all that the server knows by now."""
    if cluster_.mode == "apiserver":
        before_s = synced_s(run.scrape())
        cluster_.server.bookmark()
        return run.until(lambda page: synced_s(page) > before_s)
    polls = len(cluster_.server.seen("pods"))
    run.until(lambda _: len(cluster_.server.seen("pods")) >= polls + 2)
    return run.step()
