"""Container names from the files that each runtime leaves on disk."""

import json
import os
from pathlib import Path

import pytest

from kepler_ebpf.names.runtimes import FILE_LIMIT, RuntimeNames, container_name

ID = "0123456789abcdef" * 4
SHORT_ID = "0123456789ab"
DOCKER = f"var/lib/docker/containers/{ID}/config.v2.json"
CONTAINERD = f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"
BUNDLE = f"run/containers/storage/overlay-containers/{ID}/userdata/config.json"
STORED = "var/lib/containers/storage/overlay-containers/containers.json"
VOLATILE = "var/lib/containers/storage/overlay-containers/volatile-containers.json"
CRI_NAME = {"annotations": {"io.kubernetes.cri.container-name": "web"}}
CRIO_NAME = {"annotations": {"io.kubernetes.container.name": "web"}}
NERDCTL_NAME = {"annotations": {"nerdctl/name": "web"}}
OTHER = {"id": "f" * 64, "names": ["other"]}


def put(root: Path, path: str, content: bytes) -> None:
    """Write a file below *root*."""
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(content)


@pytest.mark.parametrize(
    ("runtime", "path", "content"),
    [
        ("docker", DOCKER, {"ID": ID, "Name": "/web"}),
        ("docker", DOCKER, {"Name": "/k8s_web_frontend-1_default_uid_0"}),
        ("kubernetes", DOCKER, {"Name": "/k8s_web_frontend-1_default_uid_0"}),
        ("containerd", CONTAINERD, CRI_NAME),
        ("containerd", CONTAINERD.replace("k8s.io", "default"), NERDCTL_NAME),
        ("kubernetes", CONTAINERD, CRI_NAME),
        ("crio", BUNDLE, CRIO_NAME),
        ("kubernetes", BUNDLE, CRIO_NAME),
        ("podman", STORED, [OTHER, {"id": ID, "names": ["web", "alias"]}]),
        ("podman", VOLATILE, [{"id": ID, "names": ["web"]}]),
        ("crio", STORED, [{"id": ID, "names": ["k8s_web_frontend-1_default_uid_0"]}]),
    ],
)
def test_name_that_a_runtime_keeps(
    tmp_path: Path, runtime: str, path: str, content: object
) -> None:
    """Each runtime's file gives the name its user gave."""
    put(tmp_path, path, json.dumps(content).encode())
    assert container_name(ID, runtime, str(tmp_path)) == "web"


@pytest.mark.parametrize("runtime", ["docker", "containerd", "crio", "podman", "kubernetes"])
def test_no_file_gives_the_short_id(tmp_path: Path, runtime: str) -> None:
    """A container nobody wrote about is called by the start of its id."""
    assert container_name(ID, runtime, str(tmp_path)) == SHORT_ID


def test_a_container_known_by_name_keeps_it(tmp_path: Path) -> None:
    """LXC and nspawn have no other id than the name."""
    assert container_name("web", "unknown", str(tmp_path)) == "web"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"Name": null}',
        b'{"Name": ""}',
        b'{"Name": "/k8s_"}',
        b'{"Name": 7}',
        b'{"annotations": []}',
        b'{"Name": "/web", "pad": "' + b"x" * FILE_LIMIT + b'"}',
    ],
    ids=lambda content: str(content[:12]),
)
@pytest.mark.parametrize(
    ("runtime", "path"),
    [("docker", DOCKER), ("containerd", CONTAINERD), ("podman", STORED)],
)
def test_a_file_of_another_shape_gives_the_short_id(
    tmp_path: Path, runtime: str, path: str, content: bytes
) -> None:
    """Broken, foreign and endless files cost the name and nothing else."""
    put(tmp_path, path, content)
    assert container_name(ID, runtime, str(tmp_path)) == SHORT_ID


def test_a_stored_container_without_names_gives_the_short_id(tmp_path: Path) -> None:
    """An entry without names, and one that is no entry, are passed over."""
    put(tmp_path, STORED, json.dumps([1, {"id": ID}, {"id": ID, "names": []}]).encode())
    assert container_name(ID, "podman", str(tmp_path)) == SHORT_ID


def test_a_file_that_is_no_plain_one_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe in the place of the runtime's file, or a link, gives no name, and at once."""
    place = tmp_path / DOCKER
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert container_name(ID, "docker", str(tmp_path)) == SHORT_ID
    place.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"Name": "/web"}))
    place.symlink_to(elsewhere)
    assert container_name(ID, "docker", str(tmp_path)) == SHORT_ID


def test_a_name_outlives_the_file(tmp_path: Path) -> None:
    """What was read once is known when the runtime has forgotten it; what was not is looked for."""
    names = RuntimeNames(str(tmp_path))
    assert names.name(ID, "docker") == SHORT_ID
    put(tmp_path, DOCKER, b'{"Name": "/web"}')
    assert names.name(ID, "docker") == "web"
    (tmp_path / DOCKER).unlink()
    assert names.name(ID, "docker") == "web"


def test_remembered_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that starts containers all day the oldest name makes room."""
    monkeypatch.setattr("kepler_ebpf.names.runtimes.REMEMBERED", 1)
    names = RuntimeNames(str(tmp_path))
    stored = [{"id": ID, "names": ["web"]}, OTHER]
    put(tmp_path, STORED, json.dumps(stored, separators=(",", ":")).encode())
    assert [names.name(id_, "podman") for id_ in (ID, "f" * 64)] == ["web", "other"]
    (tmp_path / STORED).unlink()
    assert [names.name(id_, "podman") for id_ in ("f" * 64, ID)] == ["other", SHORT_ID]


def test_a_long_list_cut_in_the_middle_gives_the_short_id(tmp_path: Path) -> None:
    """As when podman is writing it."""
    put(tmp_path, STORED, f'[{{"id":"{ID}","names":["we'.encode())
    assert container_name(ID, "podman", str(tmp_path)) == SHORT_ID
