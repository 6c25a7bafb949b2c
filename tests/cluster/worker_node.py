"""A cluster's hands: containerd and a kubelet, with the one image that every pod is made of."""

import hashlib
import io
import json
import platform
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import yaml
from control_plane import NODE, ControlPlane, answers
from enclosure import Enclosure, free_port

IMAGE = "test.invalid/busybox:1"
"""A static busybox. Without a command it sleeps, which makes it the pause image too."""

AT_ONCE = "1s"
"""How long the kubelet may take to notice that rights or static pods have changed."""

NO_NETWORK = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}
"""A network for pods that nobody uses: a node without one takes no pods from a scheduler."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call a machine that the kernel calls otherwise."""

ENTRYPOINT = ("/bin/busybox", "sleep", "2147483647")


class WorkerNode:
    """Runs the pods that the cluster puts on it."""

    def __init__(self, home: Enclosure, programs: Path, brain: ControlPlane) -> None:
        """Prepare both servers in *home*; *programs* is where the kubelet is built."""
        self._home = home
        self._folder = home.folder / "node"
        self.static_pods = self._folder / "static-pods"
        self.static_pods.mkdir(parents=True)
        (self._folder / "cni").mkdir()
        (self._folder / "cni/none.conflist").write_bytes(encoded(NO_NETWORK))
        self._socket = self._folder / "containerd.sock"
        self._port = free_port()
        self._healthz = f"http://127.0.0.1:{free_port()}"
        self._brain = brain
        self.address = f"127.0.0.1:{self._port}"
        self._containerd = home.server("containerd", ("containerd", "-c", self._runtime_config()))
        self.kubelet = home.server("kubelet", (programs / "kubelet", *self._kubelet_flags()))

    def start(self) -> None:
        """Start both, and wait until they are ready."""
        self._containerd.start(self._has_runtime)
        self._import_image()
        self.start_kubelet()

    def start_kubelet(self) -> None:
        """Start the kubelet, and wait until it is ready."""
        self.kubelet.start(lambda: answers(f"{self._healthz}/healthz"))

    def _has_runtime(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0

    def _import_image(self) -> None:
        archive = self._folder / "image.tar"
        archive.write_bytes(image_archive(IMAGE, Path(str(shutil.which("busybox")))))
        command = ("ctr", "--address", self._socket, "-n", "k8s.io", "images", "import", archive)
        subprocess.run(self._home.command(command), check=True, capture_output=True)

    def _runtime_config(self) -> Path:
        folder = self._folder
        cri = f"""
            sandbox_image = "{IMAGE}"
            restrict_oom_score_adj = true
            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "{folder}/cni"
            conf_dir = "{folder}/cni"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "native"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            Root = "{folder}/runc"
        """
        text = f"""
            version = 2
            root = "{folder}/containerd"
            state = "{folder}/state"
            [grpc]
            address = "{self._socket}"
            [ttrpc]
            address = "{self._socket}.ttrpc"
            [plugins."io.containerd.grpc.v1.cri"]{cri}
        """
        path = folder / "containerd.toml"
        path.write_text(text)
        return path

    def _kubelet_flags(self) -> tuple[str, ...]:
        user = self._brain.authority.issue("kubelet", f"/O=system:nodes/CN=system:node:{NODE}")
        return (
            f"--config={self._kubelet_config()}",
            f"--kubeconfig={self._brain.kubeconfig('kubelet', user)}",
            f"--hostname-override={NODE}",
            f"--root-dir={self._folder / 'kubelet'}",
        )

    def _kubelet_config(self) -> Path:
        serving = self._brain.authority.issue("kubelet-serving", "/CN=kubelet", "IP:127.0.0.1")
        config: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self._port,
            "healthzPort": int(self._healthz.rpartition(":")[2]),
            "tlsCertFile": str(serving[0]),
            "tlsPrivateKeyFile": str(serving[1]),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True, "cacheTTL": AT_ONCE},
                "x509": {"clientCAFile": str(self._brain.authority.ca)},
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": {"cacheAuthorizedTTL": AT_ONCE, "cacheUnauthorizedTTL": AT_ONCE},
            },
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "staticPodPath": str(self.static_pods),
            "podLogsDir": str(self._folder / "logs"),
            "volumePluginDir": str(self._folder / "plugins"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self._home.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "1Mi"},
            "imageGCHighThresholdPercent": 100,
            "fileCheckFrequency": AT_ONCE,
            "syncFrequency": "5s",
            "resolvConf": "",
        }
        path = self._folder / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        return path


# --- the image ----------------------------------------------------------------------------------


def image_archive(name: str, busybox: Path) -> bytes:
    """Return an OCI archive of an image with this *name* that holds busybox alone."""
    layer = layer_of(busybox)
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ENTRYPOINT, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    kind = "application/vnd.oci.image"
    blobs = [layer, encoded(config)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": described(f"{kind}.config.v1+json", blobs[1]),
        "layers": [described(f"{kind}.layer.v1.tar", layer)],
    }
    blobs.append(encoded(manifest))
    entry = described(f"{kind}.manifest.v1+json", blobs[2])
    entry["annotations"] = {"io.containerd.image.name": name}
    files = {
        "oci-layout": encoded({"imageLayoutVersion": "1.0.0"}),
        "index.json": encoded({"schemaVersion": 2, "manifests": [entry]}),
        **{f"blobs/{digest(blob).replace(':', '/')}": blob for blob in blobs},
    }
    return archive_of(files)


def layer_of(busybox: Path) -> bytes:
    """Return a layer with busybox, and its shell by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        program = layer.gettarinfo(busybox.resolve(), "bin/busybox")
        with busybox.open("rb") as file:
            layer.addfile(program, file)
        shell = tarfile.TarInfo("bin/sh")
        shell.type, shell.linkname = tarfile.SYMTYPE, "busybox"
        layer.addfile(shell)
    return out.getvalue()


def archive_of(files: dict[str, bytes]) -> bytes:
    """Return a tar archive of *files*."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def encoded(value: object) -> bytes:
    """Return *value* as JSON."""
    return json.dumps(value).encode()


def digest(blob: bytes) -> str:
    """Return the name of a blob."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def described(kind: str, blob: bytes) -> dict[str, Any]:
    """Return the descriptor of a blob of this media type."""
    return {"mediaType": kind, "digest": digest(blob), "size": len(blob)}
