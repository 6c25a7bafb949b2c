"""The source of pods, as a configuration wants it. Imported only where Kubernetes is on."""

from __future__ import annotations

from contextlib import ExitStack

from kepler_ebpf.config.options import Config
from kepler_ebpf.names.kubernetes.source import PodSource
from kepler_ebpf.names.kubernetes.start import PodSourceOptions, start_pod_source

GRACE_S = 60.0
"""A pod may be deleted from the API so long before its last process has ended."""


def open_pods(stack: ExitStack, config: Config) -> PodSource:
    """Follow the node's pods; *stack* ends that. Raises KeplerError."""
    source = start_pod_source(pod_source_options(config))
    stack.callback(source.close)
    return source


def pod_source_options(config: Config) -> PodSourceOptions:
    """Put together what ``start_pod_source`` needs to know."""
    return PodSourceOptions(
        mode="apiserver" if config.kube_mode == "apiserver" else "kubelet",
        node_name=config.kube_node_name,
        kubeconfig=config.kube_config,
        poll_interval_s=config.kube_poll_interval_s,
        kubelet_host=config.kubelet_host,
        kubelet_ca=config.kubelet_ca,
        kubelet_verify=config.kubelet_verify,
        label_names=frozenset(config.pod_labels),
        # Longer than their energy is listed: until then its name may be needed.
        retention_s=config.terminated_retention_s + GRACE_S,
    )
