"""A container's name from what its runtime keeps on disk. No daemon is called.

Reads the runtimes' own files below a given root of the host's file system: those of the system's
runtimes only, wherever their configuration puts them (see ``runtime_dirs``). Each read is bounded;
what is missing, closed to us, no plain file or of another shape gives no name and no error. A file
system that hangs has its reader wait for ever: see ``Reader``.
"""

# ruff: noqa: PTH207 - pathlib raises where what cannot be read is to be empty

from __future__ import annotations

import glob
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from kepler_ebpf.host.regular_file import open_regular
from kepler_ebpf.model.bounds import bounded
from kepler_ebpf.names.cgroups.containers import has_short_id, short_id
from kepler_ebpf.names.runtime_dirs import (
    CONTAINERD,
    DOCKER,
    KINDS,
    STORAGE,
    Kind,
    config_files,
    directories,
    matches,
)

LOG = logging.getLogger(__name__)

FILE_LIMIT = 4 * 1024 * 1024
"""Bytes; a larger metadata file is not read."""

MAX_REMEMBERED = 4096
"""So many names are remembered; the one that was read first makes room."""

REREAD_S = 60.0
"""The configuration is not read again for this long."""

MAX_SHOWN = 3
"""Unreadable places in a log line."""

_CONTAINER_NAME_ANNOTATIONS = (
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "nerdctl/name",
)
_CONTAINER_TYPE_ANNOTATION = "io.kubernetes.cri.container-type"
_SANDBOX = "sandbox"
_SANDBOX_NAME = "POD"
"""What docker's shim and CRI-O call the container that holds a pod's namespaces."""

_DECODER = json.JSONDecoder()
_DOCKER_SHIM_PREFIX = "k8s_"


class RuntimeNames:
    """Names as the runtimes' files have them, remembered after the files are gone.

    ``known`` never waits. The others are for a thread that can be given up, and for several.
    """

    def __init__(self, root: str = "/") -> None:
        """See the host's file system at *root* ("/proc/1/root" in a container)."""
        self._root = root
        self._names: OrderedDict[str, str] = OrderedDict()
        self._directories: dict[Kind, tuple[str, ...]] = {}
        self._read_at_s = 0.0
        self._reported: set[str] = set()

    def known(self, container_id: str) -> str | None:
        """Return the name of a container that was read before."""
        return self._names.get(container_id)

    def name(self, container_id: str, runtime: str) -> str:
        """Return the name that its runtime has, or had, for a container, else its ``short_id``.

        The first container of a runtime that has no file is logged, with the places looked at.
        """
        name = self.prefetch(container_id, runtime)
        if name is None and has_short_id(container_id) and runtime not in self._reported:
            self._reported.add(runtime)
            self._report(container_id, runtime)
        return name or short_id(container_id)

    def prefetch(self, container_id: str, runtime: str) -> str | None:
        """Read a name for later; None where the container is in no file of its runtime."""
        name = self._names.get(container_id)
        if name is None and has_short_id(container_id):
            name = self._find(container_id, runtime)
        if name is not None:
            self._names[container_id] = name
            if len(self._names) > MAX_REMEMBERED:
                self._names.popitem(last=False)
        return name

    def _find(self, container_id: str, runtime: str) -> str | None:
        name = self._look(container_id, runtime)
        if name is None and time.monotonic() - self._read_at_s > REREAD_S and self._directories:
            self._directories.clear()
            name = self._look(container_id, runtime)
        return name

    def _look(self, container_id: str, runtime: str) -> str | None:
        """Return the first name there is, "" where there are files but no name in them."""
        found = None
        for kind in _KINDS_OF_RUNTIME.get(runtime, KINDS):
            for directory in self._directories_of(kind):
                for name in _names_in(self._root, directory, kind, container_id):
                    if name:
                        return name
                    found = ""
        return found

    def _directories_of(self, kind: Kind) -> tuple[str, ...]:
        found = self._directories.get(kind)
        if found is None:
            self._read_at_s = time.monotonic()
            found = self._directories[kind] = directories(kind, self._root)
        return found

    def _report(self, container_id: str, runtime: str) -> None:
        kinds = _KINDS_OF_RUNTIME.get(runtime, KINDS)
        places = ", ".join(place for kind in kinds for place in self._directories_of(kind))
        refused = "".join(f" {path}: {why}." for path, why in unreadable(self._root)[:MAX_SHOWN])
        LOG.warning(
            "container %s (%s) has its id for a name: no file of its runtime was found. "
            "Looked in %s.%s Files of rootless runtimes are not read",
            short_id(container_id),
            runtime,
            places,
            refused and f" Not readable:{refused}",
        )


def _names_in(root: str, directory: str, kind: Kind, container_id: str) -> Iterator[str]:
    """Yield what the files about a container in a runtime's directory call it, "" for no name."""
    for pattern, name_in in _FILES[kind]:
        folder, _, file = pattern.format(id=container_id).rpartition("/")
        for place in matches(root, f"{directory.removeprefix(root.rstrip('/'))}/{folder}"):
            for path in glob.glob(file, root_dir=place):
                name = name_in(_read(f"{place}/{path}"), container_id)
                if name is not None:
                    yield _plain(name)


def unreadable(root: str = "/") -> list[tuple[str, str]]:
    """Return what cannot be read of the runtimes' directories and configuration, and why.

    Containers that need it are shown by their ids. What is not there is not in the list, but for
    *root* itself.
    """
    files = [
        path for kind in KINDS for path in (*config_files(kind, root), *directories(kind, root))
    ]
    refused = []
    for path in dict.fromkeys((root, *files)):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if path == root or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                refused.append((path, error.strerror or str(error)))
    return refused


def _read(path: str) -> str:
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
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _field(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _docker_name(config: str, _container_id: str) -> object:
    return _field(_parsed(config), "Name") or ""


def _annotated_name(bundle: str, _container_id: str) -> object:
    """Return the name in the annotations of an OCI bundle's config.json, "" where it has none."""
    annotations = _field(_parsed(bundle), "annotations")
    names = (_field(annotations, key) for key in _CONTAINER_NAME_ANNOTATIONS)
    is_sandbox = _field(annotations, _CONTAINER_TYPE_ANNOTATION) == _SANDBOX
    return next((name for name in names if name), _SANDBOX_NAME if is_sandbox else "")


def _stored_name(storage: str, container_id: str) -> object:
    """Return the name in the list that podman's and CRI-O's container storage keeps.

    The list may be long: of one that is written as they write it only the container is decoded.
    None where the container is not in it.
    """
    start = storage.find(f'{{"id":"{container_id}"')
    try:
        containers = [_DECODER.raw_decode(storage, start)[0]] if start >= 0 else _parsed(storage)
    except (ValueError, RecursionError):
        return None
    for container in containers if isinstance(containers, list) else ():
        if _field(container, "id") == container_id:
            names = _field(container, "names")
            return names[0] if isinstance(names, list) and names else ""
    return None


def _plain(name: object) -> str:
    """Return Kubernetes' part of docker's and CRI-O's k8s_NAME_POD_…, docker's without slash."""
    text = name.removeprefix("/") if isinstance(name, str) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    # Of a bounded length, for names are remembered.
    return bounded(text.split("_")[1] if text.startswith(_DOCKER_SHIM_PREFIX) else text)


_Source = tuple[str, Callable[[str, str], object]]

_FILES: dict[Kind, tuple[_Source, ...]] = {
    DOCKER: (
        ("containers/{id}/config.v2.json", _docker_name),
        # With userns-remap the containers of a user namespace are in a directory of their own.
        ("[0-9]*.[0-9]*/containers/{id}/config.v2.json", _docker_name),
    ),
    CONTAINERD: (("io.containerd.runtime.v*/*/{id}/config.json", _annotated_name),),
    STORAGE: (
        ("*-containers/{id}/userdata/config.json", _annotated_name),
        ("*-containers/*containers.json", _stored_name),
    ),
}
_KINDS_OF_RUNTIME = {
    "docker": (DOCKER,),
    "containerd": (CONTAINERD,),
    "crio": (STORAGE,),
    "podman": (STORAGE,),
    "kubernetes": (CONTAINERD, STORAGE, DOCKER),
}
