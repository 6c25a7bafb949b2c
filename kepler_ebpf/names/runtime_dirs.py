"""The directories in which the container runtimes of the system keep their files.

They are in each runtime's own configuration: its file, the flags of its service, the command line
of the running daemon. The usual places come after those. Only what root configures is read:
a directory of a user's rootless runtime could be anything, a file system that never answers too.
"""

# ruff: noqa: PTH115, PTH118, PTH120, PTH207 - pathlib raises where there is nothing to read

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kepler_ebpf.host.regular_file import open_regular

CONFIG_LIMIT = 256 * 1024
"""Bytes of a configuration file that are read."""

MAX_LINKS = 40

_VALUE = r"""(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"']+))"""
_UNITS = ("etc", "run", "lib", "usr/lib", "usr/local/lib")
_NO_TEXT = re.compile(r"^\s*#.*$|\\\n", re.MULTILINE)
"""A comment, or the end of a line that goes on."""

_MORE_FILES = re.compile(
    rf"(?:--config(?:-file)?|EnvironmentFile|CONTAINERS_STORAGE_CONF)[=\s]+-?{_VALUE}"
)
_IMPORTS = re.compile(r"^\s*imports\s*=\s*\[([^]]*)", re.MULTILINE)
_QUOTED = re.compile(r"""["']([^"'\n]+)["']""")


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    """Where the runtimes of one kind are configured: every path below the host's root.

    ``setting`` finds the directories in the text of ``files``, of the systemd ``services`` and of
    the command line of the process in ``pid_file``.
    """

    setting: re.Pattern[str]
    services: tuple[str, ...]
    files: tuple[str, ...]
    defaults: tuple[str, ...]
    pid_file: str = ""


DOCKER = Kind(
    setting=re.compile(
        rf'"(?:data-root|graph)"\s*:\s*"([^"\n]+)"'
        rf"|(?:--data-root|--graph|(?<![^\s\"'])-g)[=\s]+{_VALUE}"
    ),
    services=("docker", "dockerd", "snap.docker.dockerd", "balena", "balena-engine"),
    files=(
        "etc/docker/daemon.json",
        "var/snap/docker/current/config/daemon.json",
        "etc/default/docker",
        "etc/sysconfig/docker*",
        "etc/conf.d/docker",
    ),
    defaults=(
        "var/lib/docker",
        "var/snap/docker/common/var-lib-docker",
        "var/lib/balena-engine",
    ),
    pid_file="run/docker.pid",
)
CONTAINERD = Kind(
    setting=re.compile(rf'^\s*"?state"?\s*=\s*{_VALUE}|--state[=\s]+{_VALUE}', re.MULTILINE),
    services=("containerd", "snap.microk8s.daemon-containerd"),
    files=(
        "etc/containerd/*.toml",
        "etc/containerd/conf.d/*.toml",
        "etc/k0s/containerd*.toml",
        "var/lib/rancher/*/agent/etc/containerd/config.toml",
        "var/snap/*/current/args/containerd*",
    ),
    defaults=(
        "run/containerd",
        "run/k3s/containerd",
        "run/k0s/containerd",
        "var/snap/*/common/run/containerd",
    ),
)
STORAGE = Kind(
    setting=re.compile(
        rf'^\s*"?(?:graphroot|runroot|root)"?\s*=\s*{_VALUE}|--(?:root|runroot)[=\s]+{_VALUE}',
        re.MULTILINE,
    ),
    services=("crio", "cri-o", "podman"),
    files=(
        "etc/containers/storage.conf",
        "etc/containers/storage.conf.d/*.conf",
        "usr/share/containers/storage.conf",
        "usr/share/containers/storage.conf.d/*.conf",
        "etc/crio/crio.conf",
        "etc/crio/crio.conf.d/*",
        "etc/sysconfig/crio*",
    ),
    defaults=("var/lib/containers/storage", "run/containers/storage"),
)
KINDS = (DOCKER, CONTAINERD, STORAGE)


def directories(kind: Kind, root: str) -> tuple[str, ...]:
    """Return the directories of a kind, configured and usual ones, there or not.

    They are paths as seen from here, with the host's root directory at *root*.
    """
    texts = {path: _read(path) for path in config_files(kind, root)}
    pid = _read(follow(root, kind.pid_file)).strip()
    if pid.isdigit():
        path = f"{root.rstrip('/')}/proc/{pid}/cmdline"
        texts[path] = _read(path)
    named = [item for path, text in texts.items() for item in _named_files(root, path, text)]
    texts |= {path: _read(path) for item in named for path in matches(root, item)}
    configured = [path for text in texts.values() for path in _values(kind.setting, text)]
    usual = [path for pattern in kind.defaults for path in matches(root, pattern)]
    return tuple(dict.fromkeys([*(follow(root, path) for path in configured), *usual]))


def config_files(kind: Kind, root: str) -> Iterator[str]:
    """Yield the configuration files of a kind that may be there, services included."""
    for pattern in kind.files:
        yield from matches(root, pattern)
    for base in _UNITS:
        for service in kind.services:
            path = f"{base}/systemd/system/{service}.service"
            yield from (*matches(root, path), *matches(root, f"{path}.d/*.conf"))


def follow(root: str, path: str) -> str:
    """Return *path* below *root* without links, each followed as if *root* were the root."""
    names, done, links = path.split("/")[::-1], [""], 0
    while names:
        name = names.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            done = done[:-1] or [""]
            continue
        try:
            target = os.readlink("/".join([root.rstrip("/"), *done[1:], name]))
        except OSError:
            target = ""
        links += target != ""
        if not target or links > MAX_LINKS:
            done.append(name)
            continue
        done = [""] if target.startswith("/") else done
        names += target.split("/")[::-1]
    return root.rstrip("/") + "/".join(done) or "/"


def matches(root: str, pattern: str) -> list[str]:
    """Return what *pattern* matches below *root*; without wildcards it need not be there."""
    paths = [""]
    for name in pattern.strip("/").split("/"):
        paths = [f"{path}/{item}" for path in paths for item in _items(root, path, name)]
    return [follow(root, path) for path in paths]


def _items(root: str, path: str, name: str) -> list[str]:
    return sorted(glob.glob(name, root_dir=follow(root, path))) if "*" in name else [name]


def _named_files(root: str, path: str, text: str) -> Iterator[str]:
    """Yield what *text*, a configuration file at *path*, names more of: paths and patterns."""
    yield from _values(_MORE_FILES, text)
    directory = os.path.dirname(path.removeprefix(root.rstrip("/")))
    for imports in _IMPORTS.findall(text):
        yield from (os.path.join(directory, item) for item in _QUOTED.findall(imports))


def _values(setting: re.Pattern[str], text: str) -> list[str]:
    """Return the absolute paths that *setting* finds in *text*."""
    found = (_unescaped("".join(filter(None, match.groups()))) for match in setting.finditer(text))
    return [path for path in found if path.startswith("/") and path.isprintable()]


def _unescaped(value: str) -> str:
    """Return a string of JSON or TOML without its escapes; any other as it is."""
    with suppress(ValueError):
        return str(json.loads(f'"{value}"'))
    return value


def _read(path: str) -> str:
    """Return the text of a configuration file, "" where there is none, and no comment of it.

    A NUL, which no path may have, is a space: it ends an argument of a command line.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            text = file.read(CONFIG_LIMIT).decode("utf-8", "replace").replace("\0", " ")
    except OSError:
        return ""
    return _NO_TEXT.sub("", text)
