"""A pod source with its parts in reach and its pauses cut short, for tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kube_server import NODE, KubeServer, container_id

from kepler_ebpf.names.kubernetes.apiserver import CERTIFICATE_REMEDY, ApiServerFollower
from kepler_ebpf.names.kubernetes.connection import Connection
from kepler_ebpf.names.kubernetes.credentials import KubeConfigFile, ServiceAccount
from kepler_ebpf.names.kubernetes.index import PodIndex
from kepler_ebpf.names.kubernetes.kubelet import KubeletFollower
from kepler_ebpf.names.kubernetes.pacing import Backoff, Sleeper, Wait
from kepler_ebpf.names.kubernetes.source import FollowerContext, Journal, PodSource

Follower = ApiServerFollower | KubeletFollower


class QuickSleeper(Sleeper):
    """Notes every pause that was asked for and makes it a short one."""

    def __init__(self) -> None:
        """Start with no pause noted."""
        super().__init__()
        self.waits: list[Wait] = []
        self.before_sleep: Callable[[], object] = bool

    def sleep(self, wait: Wait) -> bool:
        """Note *wait* and pause for a millisecond."""
        self.waits.append(wait)
        self.before_sleep()
        return super().sleep(Wait(0.001, 0.001))


@dataclass(frozen=True)
class Rig:
    """A follower with what it writes to, and the source that would run it."""

    parts: FollowerContext
    follower: Follower
    sleeper: QuickSleeper
    source: PodSource

    @property
    def errors(self) -> dict[str, int]:
        """The errors counted so far."""
        return dict(self.source.status.errors)


def make_rig(
    connection: Connection, build: Callable[[FollowerContext], Follower], node: str = NODE
) -> Rig:
    """Return a rig whose follower *build* makes."""
    parts = FollowerContext(
        connection, PodIndex(), Journal("Kubernetes API"), Backoff(), node, frozenset({"app"})
    )
    sleeper = QuickSleeper()
    follower = build(parts)
    return Rig(parts, follower, sleeper, PodSource(follower.step, parts, sleeper))


@contextmanager
def running(rig: Rig) -> Iterator[PodSource]:
    """Run the rig's source for the length of a with block."""
    rig.source.start()
    try:
        yield rig.source
    finally:
        rig.source.close()
        rig.parts.connection.renew()


def rig_of(kubeconfig: str, node: str = NODE) -> Rig:
    """Return a follower that uses this kubeconfig."""
    connection = Connection(KubeConfigFile(kubeconfig), certificate_remedy=CERTIFICATE_REMEDY)
    return make_rig(connection, ApiServerFollower, node)


def knows(rig: Rig, number: int) -> bool:
    """Tell whether pod *number* is known by its container."""
    return rig.source.find(container_id(number)) is not None


def service_account(directory: Path, server: KubeServer, ca: Path, token: str) -> ServiceAccount:
    """Return a service account mounted at *directory* for this server."""
    (directory / "token").write_text(token, encoding="utf-8")
    (directory / "ca.crt").write_bytes(ca.read_bytes())
    port = server.url.rpartition(":")[2]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    return ServiceAccount(directory, environ)
