"""Container and pod from a cgroup path, for every runtime and driver that is known."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kepler_ebpf.model.bounds import MAX_LABEL_BYTES
from kepler_ebpf.names.cgroups.containers import (
    match_container,
    match_pod,
    outside_of_containers,
    owner_of,
    pod_places,
    resembles_container,
    short_id,
)

ID = "0123456789abcdef" * 4
INNER = "fedcba9876543210" * 4
UID = "6a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
UNDERSCORED = UID.replace("-", "_")
STATIC_UID = "0f" * 16
ECS_TASK = "9c41" * 8
USER = "/user.slice/user-1000.slice/user@1000.service"

PLAIN = {
    f"/docker/{ID}": (ID, "docker"),
    f"/system.slice/docker-{ID}.scope": (ID, "docker"),
    f"{USER}/user.slice/docker-{ID}.scope": (f"user-1000.slice/{ID}", "docker"),
    f"{USER}/user.slice/libpod-{ID}.scope/container": (f"user-1000.slice/{ID}", "podman"),
    f"/user.slice/libpod-{ID}.scope": (ID, "podman"),
    f"/docker/{INNER}/docker/{ID}": (f"{INNER}/{ID}", "docker"),
    f"/lxc.payload.web{USER}/docker-{ID}.scope": (f"web/user-1000.slice/{ID}", "docker"),
    f"/system.slice/cri-containerd-{ID}.scope": (ID, "containerd"),
    f"/containerd/{ID}": (ID, "containerd"),
    f"/system.slice/nerdctl-{ID}.scope": (ID, "containerd"),
    f"/system.slice/crio-{ID}.scope": (ID, "crio"),
    f"/machine.slice/libpod-{ID}.scope": (ID, "podman"),
    f"/machine.slice/libpod-{ID}.scope/container": (ID, "podman"),
    f"/machine.slice/libpod-{ID}.scope/libpod-payload-{ID}": (ID, "podman"),
    f"/libpod_parent/libpod-{ID}": (ID, "podman"),
    f"/libpod-payload-{ID}": (ID, "podman"),
    f"/machine.slice:libpod:{ID}": (ID, "podman"),
    f"/docker/{ID}/system.slice/cron.service": (ID, "docker"),
    f"/ecs/{UID}/{ID}": (ID, "docker"),
    f"/ecs/{ECS_TASK}/{ID}": (ID, "docker"),
    f"/ecs/my-cluster/{ECS_TASK}/{ID}": (ID, "docker"),
    f"/ecs/{ECS_TASK}/{ECS_TASK}-1234567890": (f"{ECS_TASK}-1234567890", "containerd"),
    f"/ecs/my-cluster/{ECS_TASK}/{ECS_TASK}-123456789": (f"{ECS_TASK}-123456789", "containerd"),
    f"/ecstasks.slice/ecstasks-{ECS_TASK}.slice/docker-{ID}.scope": (ID, "docker"),
    f"/{ID}": (ID, "unknown"),
    f"/batch/{ID}": (ID, "unknown"),
    f"/batch/{ID}/init.scope": (ID, "unknown"),
    f"/actions_job/{ID}": (ID, "unknown"),
    f"/default/{ID}": (ID, "unknown"),
    f"/k8s.io/{ID}": (ID, "unknown"),
    f"/mydocker/{ID}": (ID, "unknown"),
    f"/batch.slice/runsc-{ID}.scope": (ID, "unknown"),
    f"/libpod_parent/{INNER}/libpod-{ID}": (ID, "podman"),
    f"/default/kata_{ID}": (ID, "unknown"),
    f"/kata_overhead/{ID}": (ID, "unknown"),
    f"/kata-overhead.slice/runtime-rs-{ID}.scope": (ID, "unknown"),
    "/lxc.payload.web": ("web", "unknown"),
    "/lxc.payload/web": ("web", "unknown"),
    "/lxc/101/ns/init.scope": ("101", "unknown"),
    "/machine.slice/machine-web.scope": ("web", "unknown"),
    r"/machine.slice/machine-my\x2dweb.scope/payload": ("my-web", "unknown"),
    "/machine.slice/systemd-nspawn@web.service/payload": ("web", "unknown"),
    "/lxc.payload.a/lxc.payload.web": ("a/web", "unknown"),
    "/lxc.payload.a/lxc.payload.a": ("a/a", "unknown"),
    "/lxc.payload.b/machine.slice/systemd-nspawn@web.service": ("b/web", "unknown"),
}

BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice"
BEST_EFFORT = (
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice"
)
IN_KIND = (
    f"/docker/{INNER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice"
)
COLONS = f"/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORED}.slice"

IN_POD = {
    f"/kubepods/pod{UID}/{ID}": "kubernetes",
    f"/kubepods/burstable/pod{UID}/{ID}": "kubernetes",
    f"/kubepods/besteffort/pod{UID}/{ID}": "kubernetes",
    f"/kubepods/pod{UID}/kata_{ID}": "kubernetes",
    f"/kubepods/besteffort/pod{UID}/kata_{ID}": "kubernetes",
    f"{BURSTABLE}/runsc-{ID}.scope": "kubernetes",
    f"/kubepods/burstable/pod{UID}/crio-{ID}": "crio",
    f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope/container": "crio",
    f"{BURSTABLE}/cri-containerd-{ID}.scope": "containerd",
    f"{BEST_EFFORT}/docker-{ID}.scope": "docker",
    f"{BURSTABLE}/{ID}": "kubernetes",
    f"{COLONS}:cri-containerd:{ID}": "containerd",
    f"{COLONS}:crio:{ID}": "crio",
}

IN_CONTAINER_AND_POD = {
    f"{IN_KIND}/cri-containerd-{ID}.scope": "containerd",
    f"/docker/{INNER}/kubelet/kubepods/burstable/pod{UID}/{ID}": "kubernetes",
    f"/kubepods/burstable/pod{UID}/{INNER}/docker/{ID}": "docker",
}

NONE = (
    "/",
    "",
    "/system.slice/docker.service",
    "/docker",
    f"/docker/{ID[:-1]}",
    f"/docker/{ID}0",
    f"/docker/{ID.upper()}",
    f"/machine.slice/libpod-conmon-{ID}.scope",
    f"/system.slice/crio-conmon-{ID}.scope",
    "/libpod_parent/conmon",
    "/lxc.monitor.web",
    "/lxc",
    r"/machine.slice/machine-qemu\x2d1\x2dweb.scope",
    r"/machine.slice/machine-ch\x2d1\x2dweb.scope",
    f"/libpod_parent/{ID}/conmon",
    f"/system.slice/{ID}.service",
    f"/system.slice/{ID}-0f1e.timer",
    f"/system.slice/run-r{STATIC_UID}.scope",
)


@pytest.mark.parametrize(("path", "expected"), PLAIN.items())
def test_container_outside_of_pods(path: str, expected: tuple[str, str]) -> None:
    """The id and the runtime are those of the path, and there is no pod."""
    match = match_container(path)
    assert match is not None
    assert ((match.container_id, match.runtime), match.pod_id) == (expected, "")


@pytest.mark.parametrize(("path", "runtime"), IN_POD.items())
def test_container_of_a_pod(path: str, runtime: str) -> None:
    """Both cgroup drivers and all QoS classes give the container and its pod."""
    match = match_container(path)
    assert match is not None
    assert (match.container_id, match.runtime, match.pod_id) == (ID, runtime, UID)


@pytest.mark.parametrize(("path", "runtime"), IN_CONTAINER_AND_POD.items())
def test_container_in_a_container_and_a_pod(path: str, runtime: str) -> None:
    """The inner one is named, behind the outer one: whoever has that chooses names in it."""
    match = match_container(path)
    assert match is not None
    assert (match.container_id, match.runtime, match.pod_id) == (f"{INNER}/{ID}", runtime, UID)


@pytest.mark.parametrize("path", NONE)
def test_no_container(path: str) -> None:
    """A service, a runtime's helper, a virtual machine and a malformed id are no containers."""
    assert match_container(path) is None


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID[:-1]}",
        "/docker/0123456789ab",
        f"/nomad.slice/share.slice/{UID}.web.scope",
        f"/mesos/{UID}",
        f"/garden/{UID}",
        "/docker/buildkit/0123456789abcdefghijklmno",
        "/buildkit/zyxwvutsrqponmlkjih987654",
        "/system.slice/docker.service/buildkit/zyxwvutsrqponmlkjih987654",
        "/system.slice/docker-buildkit-zyxwvutsrqponmlkjih987654.scope",
        "/hadoop-yarn/container_1410901177871_0001_01_000005",
        "/yarn/container_e17_1410901177871_0001_01_000005",
        "/singularity/4711",
        "/kubepods.slice/kubepods-podmy-pod.slice/payload",
        f"/system.slice/{ID}-0f1e.scope",
        "/user.slice/apptainer-4711.scope",
    ],
)
def test_what_looks_like_a_container(path: str) -> None:
    """A path that is not understood and may be of a container is worth a word."""
    assert (match_container(path), resembles_container(path)) == (None, True)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docker",
        "/kubepods/burstable",
        "/kubepods.slice/kubepods-burstable.slice",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/lxc.monitor.0123456789ab",
        "/user.slice/user-1000.slice/session-3.scope",
        "/system.slice/buildkit.service",
        "/system.slice/container_manager.scope",
        f"/system.slice/snap.docker.dockerd-{UID}.scope",
        f"/system.slice/run-r{STATIC_UID}.scope",
        f"/system.slice/{ID}-0f1e.service",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/libpod_parent/{ID}/conmon",
    ],
)
def test_what_does_not_look_like_a_container(path: str) -> None:
    """A daemon, a runtime's helper and a transient unit are worth none."""
    assert not resembles_container(path)


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{STATIC_UID}/{ID}",
        f"/kubepods.slice/kubepods-pod{STATIC_UID}.slice/crio-{ID}.scope",
    ],
)
def test_static_pod_is_known_by_its_configuration_hash(path: str) -> None:
    """A static pod has 32 digits where others have a uid."""
    assert match_pod(path) == STATIC_UID


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}",
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice",
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-conmon-{ID}.scope",
    ],
)
def test_pod_without_a_container(path: str) -> None:
    """What runs in a pod's cgroup beside its containers still belongs to the pod."""
    assert (match_container(path), match_pod(path)) == (None, UID)


def test_pod_in_the_slice_of_a_user_is_the_users() -> None:
    """Whatever uid it has there, it is another pod than the one with that uid elsewhere."""
    path = f"{USER}/app.slice/kubepods.slice/kubepods-pod{UNDERSCORED}.slice"
    assert match_pod(f"{path}/cri-containerd-{ID}.scope") == f"user-1000.slice/{UID}"


@pytest.mark.parametrize(
    ("above", "root"),
    [
        ("/kubepods/burstable/pod", ""),
        ("/docker/x/kubelet/kubepods/pod", "/docker/x/kubelet"),
        (f"{BURSTABLE.removesuffix(f'{UNDERSCORED}.slice')}", ""),
        (f"{IN_KIND.removesuffix(f'{UNDERSCORED}.slice')}", f"/docker/{INNER}/kubelet.slice"),
        ("/system.slice/containerd.service/kubepods-pod", "/system.slice/containerd.service"),
    ],
)
def test_root_of_a_pod(above: str, root: str) -> None:
    """It is the cgroup that has the kubelet's own, with either driver."""
    path = f"{above}{UID}" if above.endswith("/pod") else f"{above}{UNDERSCORED}.slice"
    assert [(place.uid, place.root) for place in pod_places(path)] == [(UID, root)]


def test_pods_of_a_path_are_listed_from_the_outside() -> None:
    """Each with what is below it."""
    outer, inner = f"/kubepods/pod{STATIC_UID}", f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice"
    first, second = pod_places(f"{outer}/{INNER}{inner}/crio-{ID}.scope")
    assert (first.uid, first.root, first.rest) == (
        STATIC_UID,
        "",
        f"/{INNER}{inner}/crio-{ID}.scope",
    )
    assert (second.uid, second.root) == (UID, f"{outer}/{INNER}")
    assert second.rest == f".slice/crio-{ID}.scope"


def test_pod_in_a_pod_is_the_inner_one() -> None:
    """A cluster inside a pod of another cluster names its own pods."""
    outer = f"/kubepods/pod{STATIC_UID}/{INNER}"
    assert match_pod(f"{outer}/kubelet/kubepods/pod{UID}/{ID}") == UID


@pytest.mark.parametrize(
    ("path", "above"),
    [
        (f"/system.slice/docker-{ID}.scope/init.scope", "/system.slice"),
        (f"/docker/{ID}/system.slice/kubelet.service/kubepods/pod{UID}/{ID}", "/docker"),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope", "/kubepods.slice"),
        (f"/kubepods/burstable/pod{UID}", "/kubepods/burstable"),
        ("/machine.slice/machine-web.scope/system.slice", "/machine.slice"),
        ("/system.slice/cron.service", "/system.slice/cron.service"),
        ("/", "/"),
    ],
)
def test_part_of_a_path_above_containers(path: str, above: str) -> None:
    """It ends before the outermost container or pod."""
    assert outside_of_containers(path) == above


def test_a_path_made_to_be_slow_is_judged() -> None:
    """However many words of a container it has, a path is looked through in one go."""
    path = "/docker" * 3000 + f"/{'a' * 20_000}.service"
    assert not resembles_container(path)
    assert resembles_container(path + "/docker-0a1b2c3d")


def test_short_id_keeps_names_whole() -> None:
    """Only a full id is shortened, and only the innermost is shown."""
    assert (short_id(ID), short_id("web-container-with-a-name")) == (
        "0123456789ab",
        "web-container-with-a-name",
    )
    assert (short_id(f"user-1000.slice/{ID}"), short_id("a/web")) == ("0123456789ab", "web")


PIECES = st.sampled_from(
    [
        *(
            "docker",
            "docker-",
            "ecs",
            "kata_",
            "kata_overhead",
            f"{ECS_TASK}-123456",
            "containerd",
            "cri-containerd-",
            ":cri-containerd:",
            "crio-",
        ),
        *("libpod-", "libpod-payload-", "libpod-conmon-", "kubepods", "burstable", "kubepods-"),
        *("pod", UID, UNDERSCORED, STATIC_UID, ID, INNER, ID[:40], ".scope", ".slice", "/", ":"),
        "user.slice/user-7.slice",
        *("lxc", "lxc.payload.", "machine-", r"\x2d", r"\xff", "systemd-nspawn@", ".service"),
    ]
)
PATHS = st.lists(PIECES | st.text(max_size=5), max_size=20).map("".join)


@given(PATHS)
def test_ids_have_their_shape_whatever_the_path(path: str) -> None:
    """No path raises; an id is 64 digits or a name, a pod's uid 32 digits or a uid with dashes."""
    match = match_container(path)
    if match is None:
        return
    *above, container_id = match.container_id.split("/")
    assert container_id
    assert len(above) <= len(re.findall(r"[/:]|\\x2f", path))
    assert match.runtime == "unknown" or len(container_id) == 64 or "-" in container_id
    assert match.pod_id == match_pod(path)
    uid = match.pod_id.rpartition("/")[2]
    assert uid in {"", STATIC_UID, UID} or len(uid) in {32, 36}


@given(PATHS)
def test_what_is_above_containers_is_in_none(path: str) -> None:
    """Whatever the path, the part above is a part of it and has no container and no pod."""
    above = outside_of_containers(path)
    assert path.startswith(above)
    assert (match_container(above), match_pod(above)) == (None, "")


@given(PATHS)
def test_what_is_put_into_a_container_is_in_it(path: str) -> None:
    """The deepest match wins: below any path it is found, behind what that is in."""
    match, above = match_container(f"{path}/docker/{ID}"), match_container(path)
    assume(above is None or len(above.container_id.encode()) < MAX_LABEL_BYTES // 2)
    assert match is not None
    assert match.container_id.split("/")[-1] == ID
    assert match.runtime == "docker"
    assert above is None or match.container_id.startswith(above.container_id)


@given(PATHS)
def test_what_a_user_makes_is_the_users(path: str) -> None:
    """Whatever path a user makes in the own slice, it has no container or pod of elsewhere."""
    match = match_container(f"{USER}/{path}")
    assert match is None or match.container_id.startswith("user-1000.slice/")
    assert match_pod(f"{USER}/{path}").startswith("user-1000.slice/") or not match_pod(path)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/", "/"),
        ("/init.scope", "/init.scope"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/x", "/user.slice/user-7.slice"),
        ("/user.slice/user-7.slice/user@7.service/lxc.payload.a", "/user.slice/user-7.slice"),
        ("/system.slice/web.service/lxc.payload.a/lxc.payload.b", "/system.slice/web.service"),
        (f"/system.slice/docker-{ID}.scope/a/b", f"/system.slice/docker-{ID}.scope"),
        ("/lxc.payload.a/system.slice/web.service", "/lxc.payload.a"),
        (f"/kubepods/burstable/pod{UID}/{ID}/docker/{ID}", f"/kubepods/burstable/pod{UID}"),
        ("/a/b/c/d", "/a/b"),
    ],
)
def test_the_owner_is_whoever_can_make_more(path: str, owner: str) -> None:
    """The outermost to whom a subtree is given, for all that he makes below it."""
    assert owner_of(path) == owner
