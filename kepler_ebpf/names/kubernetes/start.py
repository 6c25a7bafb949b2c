"""Start following the node's pods: checks what was configured, and builds the parts.

Nothing of Kubernetes is imported before ``start_pod_source`` is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kepler_ebpf.errors import ConfigError, SetupError, how_to_install
from kepler_ebpf.names.kubernetes.index import PodIndex

from . import apiserver, kubelet
from .connection import Connection
from .credentials import SERVICE_ACCOUNT_DIR, Endpoint, KubeConfigFile, ServiceAccount
from .pacing import Backoff, Wait
from .source import FollowerContext, Journal, PodSource

PROBE_WATCH_S = (1.0, 1.0)
"""Shortest and longest duration of a watch that is only tried."""

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class PodSourceOptions:
    """How to learn of the node's pods.

    ``kubeconfig`` empty: the service account of the pod we run in. ``kubelet_host``: the node's
    IP address or name, empty: the node's name. ``kubelet_ca``: the CA file that signed the
    kubelet's certificate, empty: the cluster's. ``label_names``: the pod labels to keep.
    ``retention_s``: how long pods that ended stay known; at least as long as ended workloads
    are exported.
    """

    mode: Literal["apiserver", "kubelet"]
    node_name: str
    kubeconfig: str = ""
    poll_interval_s: float = 15.0
    kubelet_host: str = ""
    kubelet_ca: str = ""
    kubelet_verify: bool = True
    label_names: frozenset[str] = frozenset()
    retention_s: float = 600.0
    service_account_dir: Path = SERVICE_ACCOUNT_DIR
    backoff: Backoff = field(default_factory=Backoff)


def start_pod_source(options: PodSourceOptions) -> PodSource:
    """Start following the node's pods; returns at once, whether or not the API answers.

    Raises ConfigError where the node name is empty or none, or the credentials cannot be read,
    SetupError where the Kubernetes client is not installed.
    """
    source = PodSource(*_follower(options, apiserver.WATCH_S))
    source.start()
    return source


def probe_pod_source(options: PodSourceOptions) -> tuple[str, int]:
    """Make once each request that following needs; return the server's URL, and how many pods.

    Raises as ``start_pod_source`` does, and ApiError where the server cannot be used.
    """
    step, parts = _follower(options, PROBE_WATCH_S)
    # A list, then a watch; a kubelet has nothing to watch, and gives its list again.
    step()
    step()
    return parts.connection.url, parts.index.live_pods


def _follower(
    options: PodSourceOptions, watch_s: tuple[float, float]
) -> tuple[Callable[[], Wait], FollowerContext]:
    """Build the function that does the follower's next piece of work, and its parts."""
    by_kubelet = options.mode == "kubelet"
    parts = FollowerContext(
        connection=_connection(options),
        index=PodIndex(options.retention_s),
        journal=Journal("kubelet" if by_kubelet else "Kubernetes API"),
        backoff=options.backoff,
        node_name=options.node_name,
        label_names=options.label_names,
    )
    if by_kubelet:
        return kubelet.KubeletFollower(parts, options.poll_interval_s).step, parts
    return apiserver.ApiServerFollower(parts, watch_s).step, parts


def _connection(options: PodSourceOptions) -> Connection:
    if find_spec("kubernetes") is None:
        raise SetupError(
            "Kubernetes is on, but its client for Python is not installed",
            how_to_install("kubernetes"),
        )
    _check_node_name(options.node_name)
    file, directory = options.kubeconfig, options.service_account_dir
    credentials = KubeConfigFile(file) if file else ServiceAccount(directory)
    if options.mode == "apiserver":
        return Connection(credentials, certificate_remedy=apiserver.CERTIFICATE_REMEDY)
    endpoint = Endpoint(
        kubelet.kubelet_url(options.kubelet_host or options.node_name),
        options.kubelet_ca or None,
        options.kubelet_verify,
    )
    return Connection(credentials, endpoint, certificate_remedy=kubelet.CERTIFICATE_REMEDY)


def _check_node_name(name: str) -> None:
    if not name:
        raise ConfigError(
            "Kubernetes is on, but the node has no name",
            "give --kube.node-name (YAML: kube.nodeName), in a pod from the downward API's "
            "spec.nodeName",
        )
    if not _NODE_NAME.fullmatch(name):
        raise ConfigError(
            f"kube.nodeName {name!r} cannot be a node's name",
            "give the name that `kubectl get nodes` shows: lower-case letters, digits, '-' and '.'",
        )
