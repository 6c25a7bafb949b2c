"""A container's name from what its runtime keeps on disk. No daemon is asked.

Reads the runtimes' own files below a given root of the host's file system: those of the system's
runtimes only, as a file that a user may write could be anything. Each read is bounded and never
waits; what is missing, closed to us, no plain file or of another shape gives no name and no error.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.names.cgroups.containers import short_id

FILE_LIMIT = 4 * 1024 * 1024
"""Bytes; a larger metadata file is not read."""

REMEMBERED = 4096
"""So many names are remembered; the one that was read first makes room."""

_CONTAINER_NAME_ANNOTATIONS = (
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "nerdctl/name",
)
_DECODER = json.JSONDecoder()
_DOCKER_SHIM_PREFIX = "k8s_"
_STORAGE = "containers/storage/*-containers"


def container_name(container_id: str, runtime: str, root: str = "/") -> str:
    """Return the name a container's runtime knows it by, else its ``short_id``.

    *root* is where the host's file system is seen ("/proc/1/root" in a container).
    """
    return _kept_name(container_id, runtime, root) or short_id(container_id)


class RuntimeNames:
    """Names as the runtimes' files have them, remembered after the files are gone."""

    def __init__(self, root: str = "/") -> None:
        """See the host's file system at *root*."""
        self._root = root
        self._names: OrderedDict[str, str] = OrderedDict()

    def name(self, container_id: str, runtime: str) -> str:
        """Return what ``container_name`` does, or did while the runtime still knew the name."""
        name = self._names.get(container_id) or _kept_name(container_id, runtime, self._root)
        if not name:
            return short_id(container_id)
        self._names[container_id] = name
        if len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return name


def _kept_name(container_id: str, runtime: str, root: str) -> str:
    """Return the name in the first of the runtime's files that has one, "" where none has."""
    for pattern, name_in in _SOURCES.get(runtime, ()):
        for path in Path(root).glob(pattern.format(id=container_id)):
            name = _plain(name_in(_read(path), container_id))
            if name:
                return name
    return ""


def _read(path: Path) -> str:
    """Return a text file's content, "" when there is none to be had."""
    try:
        with os.fdopen(open_regular(path, follow=False), "rb") as file:
            raw = file.read(FILE_LIMIT + 1)
    except OSError:
        return ""
    return raw.decode("utf-8", "replace") if len(raw) <= FILE_LIMIT else ""


def _parsed(text: str) -> object:
    """Return the value of a JSON text, None when it is none."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def _field(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _docker_name(config: str, _container_id: str) -> object:
    return _field(_parsed(config), "Name")


def _annotated_name(bundle: str, _container_id: str) -> object:
    """Return the name in the annotations of an OCI bundle's config.json."""
    annotations = _field(_parsed(bundle), "annotations")
    names = (_field(annotations, key) for key in _CONTAINER_NAME_ANNOTATIONS)
    return next((name for name in names if name), None)


def _stored_name(storage: str, container_id: str) -> object:
    """Return the name in the list that podman's and CRI-O's container storage keeps.

    The list may be long: of one that is written as they write it only the container is decoded.
    """
    at = storage.find(f'{{"id":"{container_id}"')
    try:
        containers = [_DECODER.raw_decode(storage, at)[0]] if at >= 0 else _parsed(storage)
    except (ValueError, RecursionError):
        return None
    for container in containers if isinstance(containers, list) else ():
        if _field(container, "id") == container_id:
            names = _field(container, "names")
            return names[0] if isinstance(names, list) and names else None
    return None


def _plain(name: object) -> str:
    """Return Kubernetes' part of docker's and CRI-O's k8s_NAME_POD_…, docker's without slash."""
    text = name.removeprefix("/") if isinstance(name, str) else ""
    return text.split("_")[1] if text.startswith(_DOCKER_SHIM_PREFIX) else text


_Source = tuple[str, Callable[[str, str], object]]
_DOCKER: _Source = ("var/lib/docker/containers/{id}/config.v2.json", _docker_name)
_CONTAINERD: _Source = (
    "run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    _annotated_name,
)
_BUNDLE: _Source = (f"run/{_STORAGE}/{{id}}/userdata/config.json", _annotated_name)
_STORED: _Source = (f"var/lib/{_STORAGE}/*containers.json", _stored_name)

_SOURCES: dict[str, tuple[_Source, ...]] = {
    "docker": (_DOCKER,),
    "containerd": (_CONTAINERD,),
    "crio": (_BUNDLE, _STORED),
    "podman": (_STORED,),
    "kubernetes": (_CONTAINERD, _BUNDLE, _DOCKER),
}
