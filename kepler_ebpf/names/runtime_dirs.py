"""The directories in which the container runtimes of the system keep their files.

They are in each runtime's own configuration: its file, the flags of its service, the command line
of the running daemon. The usual places come after those. Only what root configures is read:
a directory of a user's rootless runtime could be anything, a file system that never answers too.
"""

# ruff: noqa: PTH115, PTH207 - pathlib raises where what cannot be read is to be empty

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kepler_ebpf.host.regular_file import open_regular

CONFIG_LIMIT = 256 * 1024
"""Bytes of a configuration file that are read."""

MAX_LINKS = 40

_VALUE = r"""(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"']+))"""
_UNITS = ("etc", "run", "lib", "usr/lib")
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_CONFIG_FLAG = re.compile(rf"--config(?:-file)?[=\s]+{_VALUE}")


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
        rf'"(?:data-root|graph)"\s*:\s*"([^"\n]+)"|(?:--data-root|--graph|\s-g)[=\s]+{_VALUE}'
    ),
    services=("docker", "dockerd", "snap.docker.dockerd", "balena"),
    files=(
        "etc/docker/daemon.json",
        "var/snap/docker/current/config/daemon.json",
        "etc/default/docker",
        "etc/sysconfig/docker*",
        "etc/conf.d/docker",
    ),
    defaults=("var/lib/docker", "var/snap/docker/common/var-lib-docker"),
    pid_file="run/docker.pid",
)
CONTAINERD = Kind(
    setting=re.compile(rf"^\s*state\s*=\s*{_VALUE}|--state[=\s]+{_VALUE}", re.MULTILINE),
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
        rf"^\s*(?:graphroot|runroot|root)\s*=\s*{_VALUE}|--(?:root|runroot)[=\s]+{_VALUE}",
        re.MULTILINE,
    ),
    services=("crio", "cri-o"),
    files=(
        "etc/containers/storage.conf",
        "etc/containers/storage.conf.d/*.conf",
        "usr/share/containers/storage.conf",
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
    texts = [_read(path) for path in config_files(kind, root)]
    pid = _read(follow(root, kind.pid_file)).strip()
    if pid.isdigit():
        texts.append(_read(f"{root.rstrip('/')}/proc/{pid}/cmdline").replace("\0", " "))
    texts += [_read(follow(root, path)) for text in texts for path in _values(_CONFIG_FLAG, text)]
    configured = [path for text in texts for path in _values(kind.setting, text)]
    usual = [path for pattern in kind.defaults for path in _matches(root, pattern)]
    return tuple(dict.fromkeys([*(follow(root, path) for path in configured), *usual]))


def config_files(kind: Kind, root: str) -> Iterator[str]:
    """Yield the configuration files of a kind that may be there, services included."""
    for pattern in kind.files:
        yield from _matches(root, pattern)
    for base in _UNITS:
        for service in kind.services:
            path = f"{base}/systemd/system/{service}.service"
            yield from (*_matches(root, path), *_matches(root, f"{path}.d/*.conf"))


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


def _matches(root: str, pattern: str) -> list[str]:
    """Return what *pattern* matches below *root*; a path without wildcards matches itself."""
    fixed, star, _ = pattern.partition("*")
    if not star:
        return [follow(root, pattern)]
    base = fixed.rpartition("/")[0]
    found = glob.glob(pattern[len(base) + 1 :], root_dir=follow(root, base))
    return [follow(root, f"{base}/{path}") for path in sorted(found)]


def _values(setting: re.Pattern[str], text: str) -> list[str]:
    """Return the absolute paths that *setting* finds in *text*."""
    found = ("".join(filter(None, match.groups())) for match in setting.finditer(text))
    return [path for path in found if path.startswith("/") and path.isprintable()]


def _read(path: str) -> str:
    """Return the text of a configuration file without its comments, "" where there is none."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return _COMMENT.sub("", file.read(CONFIG_LIMIT).decode("utf-8", "replace"))
    except OSError:
        return ""
