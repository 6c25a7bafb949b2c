"""Follow this node's pods by asking its kubelet for all of them, every poll interval."""

from __future__ import annotations

import logging
import random

from kepler_ebpf.model.pods import PodInfo

from .connection import Request
from .pacing import Wait
from .source import FollowerContext

_log = logging.getLogger(__name__)

KUBELET_PORT = 10250
PODS_RIGHT = (
    "a ClusterRole with the verb get on nodes/pods, bound to this account (a cluster older than "
    "Kubernetes 1.33 knows only nodes/proxy for it)"
)
CERTIFICATE_REMEDY = (
    "Many kubelets sign their own: let it have one from the cluster (serverTLSBootstrap: true, "
    "then approve its request), or give the CA file that signed it, or use the apiserver mode"
)

_MIN_GAP_S = 2.0
_SPREAD = 0.1
_REQUEST = Request("/pods", {}, "get nodes/pods (GET /pods)", PODS_RIGHT)


class KubeletFollower:
    """One GET of /pods a step, with the token read again before each."""

    def __init__(self, parts: FollowerContext, poll_interval_s: float) -> None:
        """Poll every *poll_interval_s*, earlier where there is an unknown container."""
        self._parts = parts
        self._poll_interval_s = poll_interval_s
        self._node_checked = False

    def step(self) -> Wait:
        """Poll once."""
        if self._parts.connection.rereads_token:
            self._parts.connection.renew()
        pods, _ = self._parts.read_list(_REQUEST)
        self._parts.index.replace(pods)
        self._parts.backoff.reset()
        self._parts.journal.connected()
        self._check_node(pods)
        spread = random.uniform(1.0 - _SPREAD, 1.0 + _SPREAD)  # noqa: S311 - only a spread
        pause_s = self._poll_interval_s * spread
        return Wait(pause_s, min(_MIN_GAP_S, pause_s))

    def _check_node(self, pods: list[PodInfo]) -> None:
        """Warn, once, when the kubelet that answers is another node's."""
        nodes, name = {pod.node for pod in pods if pod.node}, self._parts.node_name
        if nodes and not self._node_checked and name not in nodes:
            _log.warning(
                "the kubelet that answers is that of node %s, not %s: check --kube.node-name "
                "and the kubelet's address",
                ", ".join(sorted(nodes)),
                name,
            )
        self._node_checked = self._node_checked or bool(nodes)


def kubelet_url(host: str) -> str:
    """Return the kubelet's address on *host*, a name or an IP address, with its port or without."""
    name, _, port = host.rpartition(":")
    if port.isdigit() and name and (":" not in name or name.endswith("]")):
        return f"https://{host}"
    bracketed = f"[{host.strip('[]')}]" if ":" in host else host
    return f"https://{bracketed}:{KUBELET_PORT}"
