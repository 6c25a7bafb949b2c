"""From a cgroup path to the container and the pod it belongs to. Pure: no I/O, never raises.

One table holds every known shape of a path. The deepest match wins, so that of a container inside
a container (kind, docker in a pod, docker in LXC) the inner one is named. Whoever may make cgroups
chooses their names, so an id is unique only below what its maker can reach: a container inside
another, or in a user's slice, has the id of that before its own.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from kepler_ebpf.model.bounds import bounded
from kepler_ebpf.model.workloads import ContainerLabels

# What a component may begin behind and end before. A colon stands for a slash where a runtime
# with the cgroupfs driver was given a path for the systemd driver.
_START = r"(?<![^/:])"
_ID = r"(?P<id>[0-9a-f]{64})(?=/|:|\.scope(?:/|\Z)|\Z)"
_NAME = r"(?P<id>[^/]+?)"
_SCOPE = r"(?=\.scope(?:/|\Z))"
_SERVICE = r"(?=\.service(?:/|\Z))"
_UID = r"(?:[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_POD_DIR = r"(?<![^/])kubepods(?:/burstable|/besteffort)?/pod"
# A slice is named after the slices above it, so more may stand in front (kubelet-kubepods-…).
_POD_SLICE = r"(?<![^/-])kubepods(?:-burstable|-besteffort)?-pod"

_CONTAINERS = tuple(
    (re.compile(pattern), runtime)
    for pattern, runtime in (
        (rf"{_START}docker[-/:]{_ID}", "docker"),
        (rf"{_START}ecs/(?:[^/]+/){{1,2}}{_ID}", "docker"),
        (rf"{_START}(?:cri-containerd|nerdctl)[-:]{_ID}", "containerd"),
        (rf"{_START}containerd[-/]{_ID}", "containerd"),
        (rf"{_START}(?P<id>[0-9a-f]{{32}}-[0-9]{{5,10}})(?=/|\Z)", "containerd"),
        (rf"{_START}crio[-:]{_ID}", "crio"),
        (rf"{_START}libpod[-:](?:payload-)?{_ID}", "podman"),
        # A full id is nothing else, whatever directory or scope it is in. Podman's
        # pods have one too.
        (rf"{_START}(?<!libpod_parent/){_ID}", "unknown"),
        (rf"{_START}kata_{_ID}", "unknown"),
        (rf"{_START}(?![^/]*conmon)[^/:]+[-:]{_ID}", "unknown"),
        (rf"{_START}lxc(?:\.payload[./]|/){_NAME}(?=/|\Z)", "unknown"),
        # libvirt registers VMs in the same way, as machine-qemu\x2d1\x2dname.scope.
        (rf"{_START}machine-(?!qemu\\x2d|ch\\x2d[0-9]){_NAME}{_SCOPE}", "unknown"),
        (rf"{_START}systemd-nspawn@{_NAME}{_SERVICE}", "unknown"),
    )
)
"""Of two that find the same id the first decides."""

_PODS = (
    re.compile(rf"{_POD_DIR}(?P<uid>{_UID})(?=/|\Z)"),
    re.compile(rf"{_POD_SLICE}(?P<uid>{_UID})\.slice(?=/|:|\Z)"),
)
# What systemd hands to a user's own manager is in there; the rest of user.slice is root's.
_USER_SLICE = re.compile(r"(?<![^/])user\.slice/(?P<id>user-[0-9]+\.slice)(?=/)")
_DELEGATED = re.compile(r"/(?:user-[0-9]+\.slice|[^/]+\.service)(?=/|\Z)")
"""Below these systemd lets others than root make cgroups."""

_FULL_ID = re.compile(r"[0-9a-f]{64}")
_OWN_ID = re.compile(r"[0-9a-f]{32}-[0-9]{5,10}|[0-9a-f]{64}")
_KATA_OVERHEAD = re.compile(r"(?<![^/])kata[-_]overhead(?:\.slice)?[/:]")
_SYSTEMD_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")

_TOOLS = (
    r"(?:docker|containerd|nerdctl|crio|libpod|buildkit|lxc|lxd|incus|kata|ecs|garden|"
    r"mesos|nomad)"
)
# Of what a path may have and behind that: each in one pass, for a path may be made to be slow.
_SIGNS = tuple(
    (re.compile(rf"(?<![^/]){above}"), re.compile(sign))
    for above, sign in (
        ("", r"(?<![0-9a-z])[0-9a-f]{64}(?![0-9a-z])"),
        ("", r"(?<![^/])(?:apptainer|singularity)[-/][0-9]"),
        ("", r"(?<![^/-])buildkit[-/][0-9a-z]{25}(?![0-9a-z])"),
        ("", r"(?<![^/])container_(?:e[0-9]+_)?[0-9]{10,}_"),
        (rf"{_TOOLS}\b", "[0-9a-f-]{8}"),
        ("kubepods", "[-/]pod"),
    )
)
_NO_CONTAINER = re.compile(r"(?<![^/])[^/]*\.(?:service|mount)(?=/|\Z)")


class PodPlace(NamedTuple):
    """A pod in a cgroup path.

    ``root`` is the path of the cgroup below which a kubelet has its pods, "" for the root cgroup,
    ``user_slice`` the slice of the user who may have made it, "" for none, and ``rest`` the path
    below the pod.
    """

    uid: str
    root: str
    user_slice: str
    rest: str


def match_container(path: str, pod_id: str | None = None) -> ContainerLabels | None:
    """Find the innermost container of a cgroup path, still without a name; None outside of any.

    The id is 64 hexadecimal digits, TASK-NUMBER for a container that ECS runs with containerd, or
    the container's name for LXC, LXD and nspawn, which have no other id. The ids of the containers
    it is in and a user's slice, ``user-UID.slice``, are before it, each with a slash. The runtime
    is one of Kepler's docker, containerd, crio, podman, kubernetes, unknown: "kubernetes" where the
    path has the pod but not the runtime below it, "unknown" for all others, because dashboards have
    no other values of this label. The helpers that a runtime runs beside a container (conmon,
    lxc.monitor) are not in it. *pod_id* is the pod's, None for ``match_pod`` of the path.
    """
    found: dict[int, tuple[str, str]] = {}
    for pattern, runtime in _CONTAINERS:
        for match in pattern.finditer(path):
            found.setdefault(match.start("id"), (match["id"], runtime))
    if not found:
        return None
    container_id, runtime = found[max(found)]
    pod_id = match_pod(path) if pod_id is None else pod_id
    if runtime == "unknown" and pod_id and _OWN_ID.fullmatch(container_id):
        runtime = "kubernetes"
    users = {match.start("id"): (match["id"], "") for match in _USER_SLICE.finditer(path)}
    within = {start: item for start, item in users.items() if start < max(found)} | found
    ids = [_unescape(within[start][0]) for start in sorted(within)]
    # A runtime may make a second cgroup in the container's own, under the same id.
    chain = ids[:1] + [it for above, it in pairwise(ids) if it != above or not has_short_id(it)]
    return ContainerLabels("/".join(chain), "", runtime, pod_id)


def match_pod(path: str) -> str:
    """Find the uid of the innermost pod of a cgroup path; "" outside of any.

    It has dashes, or is a static pod's 32 digits; in a user's slice that slice is before it. Also
    where there is a pod but no container: the pod's own cgroup, its conmon.
    """
    places = pod_places(path)
    return "/".join(filter(None, (places[-1].user_slice, places[-1].uid))) if places else ""


def pod_places(path: str) -> list[PodPlace]:
    """Return the pods that a cgroup path is in, the outermost first."""
    matches = [match for pattern in _PODS for match in pattern.finditer(path)]
    return [_place(path, match) for match in sorted(matches, key=re.Match.start)]


def _place(path: str, match: re.Match[str]) -> PodPlace:
    root = path[: match.start()].rpartition("/")[0]
    while "kubepods" in root.rpartition("/")[2]:
        root = root.rpartition("/")[0]
    users = _USER_SLICE.findall(path[: match.start()])
    uid = match["uid"].replace("_", "-")
    return PodPlace(uid, root, "".join(users[-1:]), path[match.end("uid") :])


def is_kata_overhead(path: str) -> bool:
    """Whether a cgroup holds what Kata needs on the host for a sandbox, apart from its pod."""
    return _KATA_OVERHEAD.search(path) is not None


def resembles_container(path: str) -> bool:
    """Whether a path without a match looks as if there were a container or pod in it."""
    if "conmon" in path or "lxc.monitor" in path:
        return False
    rest = _NO_CONTAINER.sub(lambda match: "/" * len(match[0]), path)
    starts = ((above.search(path), sign) for above, sign in _SIGNS)
    return any(start and sign.search(rest, start.end()) for start, sign in starts)


def outside_of_containers(path: str) -> str:
    """Return the part of a cgroup path that is above every container and pod."""
    start = _outermost(path)
    return path if start is None else path[:start].rpartition("/")[0]


def owner_of(path: str) -> str:
    """Return the path of whoever can make the cgroup and more beside it, perhaps cut.

    That is the outermost of user, service, container and pod; where there is none, the first two
    components.
    """
    delegated, start = _DELEGATED.search(path), _outermost(path)
    if delegated and (start is None or delegated.end() <= start):
        return bounded(path[: delegated.end()])
    if start is None:
        return bounded("/".join(path.split("/", 3)[:3]))
    return bounded(path[:start] + path[start:].partition("/")[0])


def _outermost(path: str) -> int | None:
    """Return where the first id of a container or pod begins."""
    patterns = [pattern for pattern, _ in _CONTAINERS] + [*_PODS]
    starts = (match.start(1) for pattern in patterns for match in pattern.finditer(path))
    return min(starts, default=None)


def is_in_user_slice(path: str) -> bool:
    """Whether a user may have made the outermost container or pod of a cgroup path."""
    return _USER_SLICE.search(outside_of_containers(path) + "/") is not None


def has_short_id(container_id: str) -> bool:
    """Whether a container has an id made of digits, and so perhaps a name beside it."""
    return _OWN_ID.fullmatch(container_id) is not None


def ids_in(path: str) -> set[str]:
    """Return what may be ids of containers in a cgroup path: digits, not names."""
    return set(_OWN_ID.findall(path))


def short_id(container_id: str) -> str:
    """Return 12 digits of an id, as the runtimes' own tools show it; of several the innermost."""
    innermost = container_id.rpartition("/")[2]
    return innermost[:12] if _FULL_ID.fullmatch(innermost) else innermost


def _unescape(name: str) -> str:
    r"""Undo systemd's escapes (``\x2d`` is a dash), byte by byte as it made them."""
    raw = name.encode("utf-8", "replace")
    plain = _SYSTEMD_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), raw)
    return plain.decode("utf-8", "replace")
