"""A cluster's brain: etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
import yaml
from enclosure import Enclosure, Server, free_port

NODE = "node-a"
SERVICES = "10.96.0.0/24"


class Authority:
    """The cluster's CA, made with the openssl command."""

    def __init__(self, folder: Path) -> None:
        """Make the CA in *folder*."""
        folder.mkdir(parents=True)
        self._folder = folder
        self.ca, self.ca_key = folder / "ca.crt", folder / "ca.key"
        openssl(f"req -x509 {CURVE} -days 2 -subj /CN=ca -keyout {self.ca_key} -out {self.ca}")
        self.account_key = folder / "account.key"
        openssl(f"genrsa -out {self.account_key} 2048")

    def issue(self, name: str, subject: str, *alt_names: str) -> tuple[Path, Path]:
        """Return certificate and key for *subject*, as /O=group/CN=user."""
        base = self._folder / name
        certificate, key, request = (base.with_suffix(end) for end in (".crt", ".key", ".csr"))
        openssl(f"req {CURVE} -subj {subject} -keyout {key} -out {request}")
        extensions = base.with_suffix(".ext")
        alt = f"subjectAltName={','.join(alt_names)}\n" if alt_names else ""
        extensions.write_text(f"{alt}extendedKeyUsage=clientAuth,serverAuth\n")
        openssl(
            f"x509 -req -in {request} -CA {self.ca} -CAkey {self.ca_key} -days 2 "
            f"-extfile {extensions} -out {certificate}"
        )
        return certificate, key


CURVE = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


def openssl(arguments: str) -> None:
    """Run openssl, quietly."""
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)


def write_kubeconfig(path: Path, server: str, ca: Path, user: dict[str, str]) -> Path:
    """Write a kubeconfig for one *user* of *server*."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {"name": "test", "cluster": {"server": server, "certificate-authority": str(ca)}}
        ],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@dataclass(frozen=True)
class Etcd:
    """The store, and its compaction."""

    server: Server
    url: str

    def start(self) -> None:
        """Start it, and wait until it is healthy."""
        self.server.start(lambda: answers(f"{self.url}/health"))

    def compact(self) -> int:
        """Forget every revision before the present one, and return that."""
        revision = int(self._call("range", {"key": "AA=="})["header"]["revision"])
        self._call("compaction", {"revision": str(revision), "physical": True})
        return revision

    def _call(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = urllib3.request("POST", f"{self.url}/v3/kv/{what}", json=body)
        assert answer.status == HTTPStatus.OK, answer.data
        decoded: dict[str, Any] = answer.json()
        return decoded


def answers(url: str, tls: dict[str, Any] | None = None) -> bool:
    """Tell whether *url* is answered with success; *tls* holds files, as urllib3 calls them."""
    with urllib3.PoolManager(**tls or {}) as pool, suppress(urllib3.exceptions.HTTPError):
        return pool.request("GET", url, timeout=5, retries=False).status == HTTPStatus.OK
    return False


class ControlPlane:
    """The four servers, each startable by itself."""

    def __init__(self, home: Enclosure, programs: Path) -> None:
        """Prepare them in *home*; *programs* is where they are built."""
        self._home = home
        self._programs = programs
        self.authority = Authority(home.folder / "pki")
        self._port = free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self._serving = self.authority.issue("apiserver", "/CN=kube-apiserver", "IP:127.0.0.1")
        self._to_kubelet = self.authority.issue("to-kubelet", "/O=system:masters/CN=apiserver")
        self.admin = self.authority.issue("admin", "/O=system:masters/CN=admin")
        self.admin_config = self.kubeconfig("admin", self.admin)
        self.etcd = self._etcd()
        self.apiserver = self.make_apiserver()
        self._controllers = self._program("kube-controller-manager", self._controller_flags())
        self._scheduler = self._program("kube-scheduler", self._scheduler_flags())

    def start(self) -> None:
        """Start everything."""
        self.etcd.start()
        self.start_apiserver()
        self._controllers.start(lambda: True)
        self._scheduler.start(lambda: True)

    def start_apiserver(self) -> None:
        """Start the API server, and wait until it is ready."""
        ca, (certificate, key) = self.authority.ca, self.admin
        tls = {"ca_certs": str(ca), "cert_file": str(certificate), "key_file": str(key)}
        self.apiserver.start(lambda: answers(f"{self.url}/readyz", tls))

    def kubeconfig(self, name: str, key_pair: tuple[Path, Path]) -> Path:
        """Write a kubeconfig for whom this certificate is."""
        user = {"client-certificate": str(key_pair[0]), "client-key": str(key_pair[1])}
        path = self._home.folder / f"{name}.kubeconfig"
        return write_kubeconfig(path, self.url, self.authority.ca, user)

    def make_apiserver(self, *more: str) -> Server:
        """Return an API server with *more* flags, not yet running."""
        return self._program("kube-apiserver", (*self._apiserver_flags(), *more))

    def _program(self, name: str, flags: tuple[str, ...]) -> Server:
        return self._home.server(name, (self._programs / name, *flags))

    def _etcd(self) -> Etcd:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        flags = (
            f"--data-dir={self._home.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        return Etcd(self._program("etcd", flags), client)

    def _apiserver_flags(self) -> tuple[str, ...]:
        key = self.authority.account_key
        return (
            f"--etcd-servers={self.etcd.url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            # Its own address in the cluster, which nobody here uses.
            "--advertise-address=198.51.100.1",
            f"--tls-cert-file={self._serving[0]}",
            f"--tls-private-key-file={self._serving[1]}",
            f"--client-ca-file={self.authority.ca}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--kubelet-client-certificate={self._to_kubelet[0]}",
            f"--kubelet-client-key={self._to_kubelet[1]}",
            f"--kubelet-certificate-authority={self.authority.ca}",
        )

    def _controller_flags(self) -> tuple[str, ...]:
        return (
            *self._client_flags(),
            f"--root-ca-file={self.authority.ca}",
            f"--service-account-private-key-file={self.authority.account_key}",
            f"--cluster-signing-cert-file={self.authority.ca}",
            f"--cluster-signing-key-file={self.authority.ca_key}",
            "--use-service-account-credentials",
            # It makes this folder.
            f"--flex-volume-plugin-dir={self._home.folder / 'plugins'}",
        )

    def _scheduler_flags(self) -> tuple[str, ...]:
        return self._client_flags()

    def _client_flags(self) -> tuple[str, ...]:
        config = self.admin_config
        return (
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
        )
