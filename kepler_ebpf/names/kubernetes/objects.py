"""A Pod object of the core/v1 API, as decoded JSON, to what we keep of it.

Everything is optional in that JSON and nothing is trusted: a field of the wrong type counts as
absent, and only an object without uid or name is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from kepler_ebpf.model.pods import PodInfo

_STATUS_FIELDS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_CONFIG_HASH = "kubernetes.io/config.hash"
_CONFIG_MIRROR = "kubernetes.io/config.mirror"
_CONFIG_SOURCE = "kubernetes.io/config.source"
_TEMPLATE_HASH = "pod-template-hash"


class MalformedPodError(ValueError):
    """The object is no pod: it has no uid or no name."""


def parse_pod(value: object, label_names: frozenset[str]) -> PodInfo:
    """Return what we keep of the Pod object *value*; of its labels those in *label_names*."""
    root = mapping(value)
    metadata, spec, status = (mapping(root.get(key)) for key in ("metadata", "spec", "status"))
    uid, name = text(metadata.get("uid")), text(metadata.get("name"))
    if not uid or not name:
        raise MalformedPodError
    owner_kind, owner_name = _owner(metadata)
    return PodInfo(
        pod_id=uid,
        pod_name=name,
        pod_namespace=sys.intern(text(metadata.get("namespace"))),
        cgroup_pod_id=_cgroup_uid(metadata, uid),
        node=sys.intern(text(spec.get("nodeName"))),
        owner_kind=sys.intern(owner_kind),
        owner_name=owner_name,
        qos_class=sys.intern(text(status.get("qosClass"))),
        labels=_labels(metadata, label_names),
        created=text(metadata.get("creationTimestamp")),
        containers=tuple(_containers(status).items()),
    )


def mapping(value: object) -> Mapping[str, object]:
    """Return *value* if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return *value* if it is a string that can be written as UTF-8, mended where it cannot."""
    if not isinstance(value, str):
        return ""
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


def _elements(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _containers(status: Mapping[str, object]) -> dict[str, str]:
    """Return the containers' names by id; of two with one id the first."""
    names: dict[str, str] = {}
    for field in _STATUS_FIELDS:
        for entry in map(mapping, _elements(status.get(field))):
            for container_id in filter(None, _ids(entry)):
                names.setdefault(container_id, text(entry.get("name")))
    return names


def _ids(entry: Mapping[str, object]) -> Iterator[str]:
    """Yield the id of the container and of its previous run, whose end may be missed otherwise."""
    yield _bare_id(entry.get("containerID"))
    for field in ("state", "lastState"):
        terminated = mapping(mapping(entry.get(field)).get("terminated"))
        yield _bare_id(terminated.get("containerID"))


def _bare_id(value: object) -> str:
    """Return the id of ``containerd://ID``, ``docker://ID`` or ``cri-o://ID``."""
    return text(value).partition("://")[2]


def _cgroup_uid(metadata: Mapping[str, object], uid: str) -> str:
    """Return the uid in the kubelet's cgroup path: a static pod's is the hash of its manifest."""
    annotations = mapping(metadata.get("annotations"))
    config_hash = text(annotations.get(_CONFIG_HASH))
    from_node = text(annotations.get(_CONFIG_SOURCE)) in {"file", "http"}
    if config_hash and (from_node or _CONFIG_MIRROR in annotations):
        return config_hash
    return uid


def _owner(metadata: Mapping[str, object]) -> tuple[str, str]:
    """Return (kind, name) of the controller; of a Deployment rather than its ReplicaSet."""
    owners = [mapping(owner) for owner in _elements(metadata.get("ownerReferences"))]
    chosen = next((owner for owner in owners if owner.get("controller") is True), None)
    if chosen is None:
        return "", ""
    kind, name = text(chosen.get("kind")), text(chosen.get("name"))
    template_hash = text(mapping(metadata.get("labels")).get(_TEMPLATE_HASH))
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return "Deployment", name[: -len(template_hash) - 1]
    return kind, name


def _labels(
    metadata: Mapping[str, object], label_names: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    labels = mapping(metadata.get("labels"))
    return tuple((name, text(labels[name])) for name in sorted(label_names) if name in labels)
