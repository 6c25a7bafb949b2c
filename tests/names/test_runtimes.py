"""Container names from the files that each runtime leaves on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kepler_ebpf.model.bounds import MAX_LABEL_BYTES
from kepler_ebpf.names import runtimes
from kepler_ebpf.names.runtimes import FILE_LIMIT, RuntimeNames, unreadable

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
    (root / path).parent.mkdir(parents=True, exist_ok=True)
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
    assert RuntimeNames(str(tmp_path)).name(ID, runtime) == "web"


@pytest.mark.parametrize(
    ("runtime", "path", "content"),
    [
        ("docker", DOCKER, {"Name": "/k8s_POD_frontend-1_default_uid_0"}),
        (
            "containerd",
            CONTAINERD,
            {"annotations": {"io.kubernetes.cri.container-type": "sandbox"}},
        ),
        ("crio", BUNDLE, {"annotations": {"io.kubernetes.container.name": "POD"}}),
    ],
)
def test_the_container_that_only_holds_a_pod_is_named(
    tmp_path: Path, runtime: str, path: str, content: object
) -> None:
    """It has one name in all pods and runtimes, so that no list of containers shows its id."""
    put(tmp_path, path, json.dumps(content).encode())
    assert RuntimeNames(str(tmp_path)).name(ID, runtime) == "POD"


@pytest.mark.parametrize("runtime", ["docker", "containerd", "crio", "podman", "kubernetes"])
def test_no_file_gives_the_short_id(tmp_path: Path, runtime: str) -> None:
    """A container nobody wrote about is called by the start of its id."""
    assert RuntimeNames(str(tmp_path)).name(ID, runtime) == SHORT_ID


def test_a_container_known_by_name_keeps_it(tmp_path: Path) -> None:
    """LXC and nspawn have no other id than the name."""
    assert RuntimeNames(str(tmp_path)).name("web", "unknown") == "web"


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
    assert RuntimeNames(str(tmp_path)).name(ID, runtime) == SHORT_ID


def test_a_stored_container_without_names_gives_the_short_id(tmp_path: Path) -> None:
    """An entry without names, and one that is no entry, are passed over."""
    put(tmp_path, STORED, json.dumps([1, {"id": ID}, {"id": ID, "names": []}]).encode())
    assert RuntimeNames(str(tmp_path)).name(ID, "podman") == SHORT_ID


def test_a_file_that_is_no_plain_one_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe in the place of the runtime's file, or a link, gives no name, and at once."""
    place = tmp_path / DOCKER
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == SHORT_ID
    place.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({"Name": "/web"}))
    place.symlink_to(elsewhere)
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == SHORT_ID


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
    monkeypatch.setattr("kepler_ebpf.names.runtimes.MAX_REMEMBERED", 1)
    names = RuntimeNames(str(tmp_path))
    stored = [{"id": ID, "names": ["web"]}, OTHER]
    put(tmp_path, STORED, json.dumps(stored, separators=(",", ":")).encode())
    assert [names.name(id_, "podman") for id_ in (ID, "f" * 64)] == ["web", "other"]
    (tmp_path / STORED).unlink()
    assert [names.name(id_, "podman") for id_ in ("f" * 64, ID)] == ["other", SHORT_ID]


def test_a_long_list_cut_in_the_middle_gives_the_short_id(tmp_path: Path) -> None:
    """As when podman is writing it."""
    put(tmp_path, STORED, f'[{{"id":"{ID}","names":["we'.encode())
    assert RuntimeNames(str(tmp_path)).name(ID, "podman") == SHORT_ID


# --- where the runtimes' configuration puts the files

TASK = f"io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"
DOCKERS = f"containers/{ID}/config.v2.json"
LIST = "overlay-containers/containers.json"
ESCAPED = r'{"data-root": "\/mnt\/d\u00e9"}'
UNIT = "[Service]\nExecStart=/usr/bin/dockerd {}\n"

ELSEWHERE = {
    "k3s": ("containerd", f"run/k3s/containerd/{TASK}", {}),
    "k0s": ("containerd", f"run/k0s/containerd/{TASK}", {}),
    "microk8s": ("kubernetes", f"var/snap/microk8s/common/run/containerd/{TASK}", {}),
    "containerd 1.0": ("containerd", f"run/containerd/{TASK.replace('v2.task', 'v1.linux')}", {}),
    "state moved": (
        "containerd",
        f"srv/state/{TASK}",
        {"etc/containerd/config.toml": "version = 2\nstate = '/srv/state'\n"},
    ),
    "state flag": (
        "containerd",
        f"srv/state/{TASK}",
        {"lib/systemd/system/containerd.service": "ExecStart=containerd --state /srv/state\n"},
    ),
    "config flag": (
        "containerd",
        f"srv/state/{TASK}",
        {
            "lib/systemd/system/containerd.service": "ExecStart=containerd --config /opt/c.toml\n",
            "opt/c.toml": 'state = "/srv/state"\n',
        },
    ),
    "docker's snap": ("docker", f"var/snap/docker/common/var-lib-docker/{DOCKERS}", {}),
    "data-root": (
        "docker",
        f"mnt/my data/{DOCKERS}",
        {"etc/docker/daemon.json": '{"debug": true, "data-root": "/mnt/my data"}'},
    ),
    "graph": ("unknown", f"mnt/{DOCKERS}", {"etc/docker/daemon.json": '{"graph":"/mnt"}'}),
    "snap's data-root": (
        "docker",
        f"mnt/{DOCKERS}",
        {"var/snap/docker/current/config/daemon.json": '{"data-root": "/mnt"}'},
    ),
    "data-root flag": (
        "docker",
        f"mnt/{DOCKERS}",
        {"lib/systemd/system/docker.service": UNIT.format("--data-root=/mnt")},
    ),
    "old flag in a drop-in": (
        "docker",
        f"mnt/{DOCKERS}",
        {"etc/systemd/system/docker.service.d/a.conf": UNIT.format('-H fd:// -g "/mnt"')},
    ),
    "options file": (
        "docker",
        f"mnt/{DOCKERS}",
        {"etc/default/docker": 'DOCKER_OPTS="--data-root /mnt"\n#DOCKER_OPTS="-g /not"\n'},
    ),
    "running daemon": (
        "docker",
        f"mnt/{DOCKERS}",
        {"run/docker.pid": "77\n", "proc/77/cmdline": "dockerd\0--data-root\0/mnt\0"},
    ),
    "options that begin with the flag": (
        "docker",
        f"mnt/{DOCKERS}",
        {"etc/sysconfig/docker": "OPTIONS='-g /mnt'\n"},
    ),
    "escapes": ("docker", f"mnt/d\u00e9/{DOCKERS}", {"etc/docker/daemon.json": ESCAPED}),
    "comments": (
        "docker",
        f"mnt/{DOCKERS}",
        {"etc/docker/daemon.json": '{\n // moved\n "data-root": "/mnt", // here\n}'},
    ),
    "line that goes on": (
        "docker",
        f"mnt/{DOCKERS}",
        {"usr/local/lib/systemd/system/docker.service": UNIT.format("--data-root \\\n /mnt")},
    ),
    "environment file": (
        "docker",
        f"mnt/{DOCKERS}",
        {
            "etc/systemd/system/docker.service": "[Service]\nEnvironmentFile=-/opt/docker.env\n",
            "opt/docker.env": "OPTIONS=--data-root=/mnt\n",
        },
    ),
    "containerd's imports": (
        "containerd",
        f"srv/state/{TASK}",
        {
            "etc/containerd/config.toml": 'imports = [\n "/etc/none", # no\n "/opt/*/c.toml",\n]\n',
            "opt/c/c.toml": 'version = 3\n"state" = "/srv/state"\n',
        },
    ),
    "an import beside": (
        "containerd",
        f"srv/state/{TASK}",
        {
            "etc/containerd/config.toml": 'imports = ["own/c.toml"]\n',
            "etc/containerd/own/c.toml": 'state = "/srv/state"\n',
        },
    ),
    "storage.conf.d": (
        "podman",
        f"srv/c/{LIST}",
        {"usr/share/containers/storage.conf.d/a.conf": 'graphroot = "/srv/c"\n'},
    ),
    "storage named by a unit": (
        "podman",
        f"srv/c/{LIST}",
        {
            "etc/systemd/system/podman.service": "Environment=CONTAINERS_STORAGE_CONF=/opt/s\n",
            "opt/s": 'graphroot = "/srv/c"\n',
        },
    ),
    "userns-remap": ("docker", f"var/lib/docker/165536.165536/{DOCKERS}", {}),
    "graphroot": (
        "podman",
        f"srv/c/{LIST}",
        {"etc/containers/storage.conf": '[storage]\n# graphroot = "/not"\ngraphroot = "/srv/c"\n'},
    ),
    "runroot": (
        "crio",
        f"srv/run/overlay-containers/{ID}/userdata/config.json",
        {"etc/crio/crio.conf.d/10-moved.conf": '[crio]\nrunroot = "/srv/run"\n'},
    ),
}


@pytest.mark.parametrize(("runtime", "path", "files"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_files_are_found_where_the_configuration_puts_them(
    tmp_path: Path, runtime: str, path: str, files: dict[str, str]
) -> None:
    """Files in a place that the runtime's own configuration, service or packager chose."""
    annotations = {**CRI_NAME["annotations"], "io.kubernetes.container.name": "web"}
    content: object = {"Name": "/web", "annotations": annotations}
    put(
        tmp_path,
        path,
        json.dumps([{"id": ID, "names": ["web"]}] if LIST in path else content).encode(),
    )
    for name, text in files.items():
        put(tmp_path, name, text.encode())
    assert RuntimeNames(str(tmp_path)).name(ID, runtime) == "web"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("var/lib/docker", "/mnt/docker"),
        ("var/lib/docker", "../../mnt/docker"),
        ("var/lib/docker/containers", "/mnt/docker/containers"),
    ],
)
def test_a_linked_directory_is_followed_below_the_hosts_root(
    tmp_path: Path, link: str, target: str
) -> None:
    """A link is followed as the host does, whose root is not ours."""
    put(tmp_path, f"mnt/docker/{DOCKERS}", b'{"Name": "/web"}')
    (tmp_path / link).parent.mkdir(parents=True)
    (tmp_path / link).symlink_to(target)
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == "web"


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    """They end the search and nothing else."""
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/docker").symlink_to("/var/lib/docker/x")
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == SHORT_ID


@pytest.mark.parametrize(
    "text", ['{"data-root": "relative"}', '{"data-root": "/\0"}', '{"data-root": 7}', "{", "\x00"]
)
def test_a_configuration_that_is_none_changes_nothing(tmp_path: Path, text: str) -> None:
    """The usual places are looked at whatever a configuration holds."""
    put(tmp_path, "etc/docker/daemon.json", text.encode())
    put(tmp_path, DOCKER, b'{"Name": "/web"}')
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == "web"


def test_a_configuration_that_changes_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that is installed or moved later is found, without a look at each container."""
    names = RuntimeNames(str(tmp_path))
    assert names.name(ID, "docker") == SHORT_ID
    put(tmp_path, f"mnt/{DOCKERS}", b'{"Name": "/web"}')
    put(tmp_path, "etc/docker/daemon.json", b'{"data-root": "/mnt"}')
    assert names.name(ID, "docker") == SHORT_ID
    monkeypatch.setattr(runtimes, "REREAD_S", 0.0)
    assert names.name(ID, "docker") == "web"


def test_files_of_a_user_are_not_read(tmp_path: Path) -> None:
    """What a user may write could be anything, and keep us waiting."""
    put(tmp_path, f"home/u/.local/share/docker/{DOCKERS}", b'{"Name": "/web"}')
    put(tmp_path, f"home/u/.local/share/containers/storage/{LIST}", b"[]")
    assert RuntimeNames(str(tmp_path)).name(ID, "unknown") == SHORT_ID


def test_a_container_without_a_file_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the places that were looked at, once a runtime; a file without a name is one."""
    names = RuntimeNames(str(tmp_path))
    for container_id in (ID, "f" * 64):
        names.name(container_id, "docker")
    put(tmp_path, CONTAINERD, b"{}")
    names.name(ID, "containerd")
    assert len(caplog.records) == 1
    assert f"Looked in {tmp_path}/var/lib/docker," in caplog.text
    assert "rootless" in caplog.text


def test_a_name_that_is_no_text_is_mended(tmp_path: Path) -> None:
    """Half a surrogate could not be exported."""
    put(tmp_path, DOCKER, b'{"Name": "/web-\\ud83d"}')
    assert RuntimeNames(str(tmp_path)).name(ID, "docker") == "web-?"


def test_a_name_of_a_megabyte_is_cut(tmp_path: Path) -> None:
    """What a stranger wrote into an annotation is remembered no longer than a label may be."""
    put(tmp_path, DOCKER, json.dumps({"Name": "/" + "n" * 1_000_000}).encode())
    assert len(RuntimeNames(str(tmp_path)).name(ID, "docker")) == MAX_LABEL_BYTES


# --- what may not be read


@pytest.mark.parametrize(
    "closed", ["", "var/lib/docker", "var/lib/docker/containers", "etc/docker"]
)
def test_what_may_not_be_read_gives_the_short_id(
    tmp_path: Path, checkout: Path, closed: str
) -> None:
    """Neither a closed root nor a closed directory below it raises, and each is foreseen."""
    put(tmp_path, DOCKER, b'{"Name": "/web"}')
    put(tmp_path, "etc/docker/daemon.json", b"{}")
    (tmp_path / closed).chmod(0)
    code = (
        "from kepler_ebpf.names.runtimes import RuntimeNames, unreadable\n"
        f"root = {str(tmp_path)!r}\n"
        f"print(RuntimeNames(root).name({ID!r}, 'docker'), unreadable(root))"
    )
    drop = [f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")]
    command = ["setpriv", *drop, sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    (tmp_path / closed).chmod(0o755)
    name, _, refused = done.stdout.strip().partition(" ")
    assert name == ("web" if closed == "etc/docker" else SHORT_ID)
    assert "Permission denied" in refused or closed == "var/lib/docker/containers"


def test_a_host_without_runtimes_has_nothing_unreadable(tmp_path: Path) -> None:
    """What is not there is not missed; a root that is not there is."""
    assert unreadable(str(tmp_path)) == []
    assert unreadable(str(tmp_path / "root"))[0][0] == str(tmp_path / "root")


def test_configured_path_with_a_nul_is_none(tmp_path: Path) -> None:
    """No system call takes it: the container has its id for a name."""
    put(tmp_path, "etc/containers/storage.conf", b"graphroot = '/a\0b'\n")
    put(tmp_path, "etc/docker/daemon.json", b'{"data-root": "/a\0b"}')
    assert RuntimeNames(str(tmp_path)).name(ID, "unknown") == SHORT_ID
    assert unreadable(str(tmp_path)) == []
