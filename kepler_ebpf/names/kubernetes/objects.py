"""A Pod object of the core/v1 API, as decoded JSON, to what we keep of it.

Everything is optional in that JSON and nothing is trusted: a field of the wrong type counts as
absent, only an object without uid or name is refused, and what is kept of a pod is bounded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from itertools import islice

from kepler_ebpf.model.pods import PodInfo

MAX_CHARS = 253
"""Characters that are kept of a name, an id or a label: Kubernetes allows no longer name."""

MAX_CONTAINERS = 200
"""Containers that are kept of one pod, runs that have ended included."""

_STATUS_FIELDS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_CONFIG_HASH = "kubernetes.io/config.hash"
_CONFIG_MIRROR = "kubernetes.io/config.mirror"
_TEMPLATE_HASH = "pod-template-hash"
_CRON_JOB_RUN = re.compile(r"(?P<cron_job>.+)-(?:2[4-9]|[3-9][0-9])[0-9]{6}")


class MalformedPodError(ValueError):
    """The object is no pod: it has no uid or no name."""


def parse_pod(value: object, label_names: frozenset[str]) -> PodInfo:
    """Return what we keep of the Pod object *value*; of its labels those in *label_names*."""
    root = mapping(value)
    metadata, spec, status = (mapping(root.get(key)) for key in ("metadata", "spec", "status"))
    uid, name = _word(metadata.get("uid")), _word(metadata.get("name"))
    if not uid or not name:
        raise MalformedPodError
    node, owner = _word(spec.get("nodeName")), _controller(metadata)
    owner_kind, owner_name = _owner(owner, metadata)
    containers = tuple(islice(_containers(status), MAX_CONTAINERS))
    # Who may create pods chooses all but the status: the kubelet writes that of what it runs.
    is_mirror = bool(containers) and owner == ("Node", node)
    return PodInfo(
        pod_id=uid,
        pod_name=name,
        pod_namespace=sys.intern(_word(metadata.get("namespace"))),
        cgroup_pod_id=(is_mirror and _mirrored_uid(metadata)) or uid,
        node=sys.intern(node),
        owner_kind=sys.intern(owner_kind),
        owner_name=owner_name,
        qos_class=sys.intern(_word(status.get("qosClass"))),
        labels=_labels(metadata, label_names),
        created=_word(metadata.get("creationTimestamp")),
        containers=containers,
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


def _word(value: object) -> str:
    """Return the text *value*, cut where it is longer than a name can be."""
    return text(value)[:MAX_CHARS]


def _elements(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _containers(status: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (id, name) of the containers; of two with one id the first."""
    seen: set[str] = set()
    for field in _STATUS_FIELDS:
        for entry in map(mapping, _elements(status.get(field))):
            for container_id in filter(None, _ids(entry)):
                if container_id not in seen:
                    seen.add(container_id)
                    yield container_id, _word(entry.get("name"))


def _ids(entry: Mapping[str, object]) -> Iterator[str]:
    """Yield the id of the container and of its previous run, whose end may be missed otherwise."""
    yield _bare_id(entry.get("containerID"))
    for field in ("state", "lastState"):
        terminated = mapping(mapping(entry.get(field)).get("terminated"))
        yield _bare_id(terminated.get("containerID"))


def _bare_id(value: object) -> str:
    """Return the id of ``containerd://ID``, ``docker://ID`` or ``cri-o://ID``."""
    return _word(value).partition("://")[2]


def _mirrored_uid(metadata: Mapping[str, object]) -> str:
    """Return the uid of the static pod that the kubelet made this mirror for, "" for none.

    The kubelet knows a static pod by the hash of its manifest, and writes that into both
    annotations.
    """
    annotations = mapping(metadata.get("annotations"))
    config_hash, mirrored = (_word(annotations.get(key)) for key in (_CONFIG_HASH, _CONFIG_MIRROR))
    return config_hash if config_hash == mirrored else ""


def _controller(metadata: Mapping[str, object]) -> tuple[str, str]:
    """Return (kind, name) of the controller, "" for none."""
    owners = map(mapping, _elements(metadata.get("ownerReferences")))
    chosen = next((owner for owner in owners if owner.get("controller") is True), {})
    return _word(chosen.get("kind")), _word(chosen.get("name"))


def _owner(controller: tuple[str, str], metadata: Mapping[str, object]) -> tuple[str, str]:
    """Return the controller, of a Deployment rather than its ReplicaSet, a CronJob than its Job.

    A CronJob names each Job after itself and the minute since 1970 that it was due: eight digits,
    above those of a date. Jobs are not read, so one that a user named so counts as a CronJob's.
    """
    kind, name = controller
    template_hash = text(mapping(metadata.get("labels")).get(_TEMPLATE_HASH))
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return "Deployment", name[: -len(template_hash) - 1]
    if kind == "Job" and (run := _CRON_JOB_RUN.fullmatch(name)):
        return "CronJob", run["cron_job"]
    return kind, name


def _labels(
    metadata: Mapping[str, object], label_names: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    labels = mapping(metadata.get("labels"))
    return tuple((name, _word(labels[name])) for name in sorted(label_names) if name in labels)
