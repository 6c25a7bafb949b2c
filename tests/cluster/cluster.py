"""A whole cluster of one node, and what its administrator does to it."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from control_plane import NODE, Authority, ControlPlane, write_kubeconfig
from enclosure import Enclosure, enclosure, wait_for
from kubernetes import client as kube
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from manifests import KUSTOMIZE, kustomize
from worker_node import WorkerNode

Json = dict[str, Any]

ACCOUNT = NAMESPACE = "kepler-ebpf"
"""The service account of deploy/, and its namespace."""

POD_TIME_S = 60.0


class Cluster:
    """The servers, with an administrator's client."""

    def __init__(self, home: Enclosure, programs: Path) -> None:
        """Prepare the cluster in *home*; *programs* is where its programs are built."""
        self.home = home
        self.brain = ControlPlane(home, programs)
        self.node = WorkerNode(home, programs, self.brain)
        self._client: DynamicClient | None = None

    def start(self) -> None:
        """Start it, and wait until its node takes pods."""
        self.brain.start()
        self.node.start()
        wait_for("the node is ready", self._node_is_ready)
        wait_for(
            "the default account is there", lambda: bool(self.get("ServiceAccount", "default"))
        )

    def _node_is_ready(self) -> bool:
        node = self.get("Node", NODE)
        conditions = node["status"].get("conditions", []) if node else []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    @property
    def client(self) -> DynamicClient:
        """The administrator's client."""
        if self._client is None:
            cache = str(self.home.folder / "resources.json")
            self._client = DynamicClient(kube.ApiClient(self._configuration()), cache)
        return self._client

    def _configuration(self) -> kube.Configuration:
        made = kube.Configuration(host=self.brain.url)
        made.ssl_ca_cert = str(self.brain.authority.ca)
        made.cert_file, made.key_file = map(str, self.brain.admin)
        return made

    # --- objects ---

    def put(self, value: Json, namespace: str = "default") -> Json:
        """Create the object *value*, or change the one of its name; return it as it is then."""
        resource = self._resource(value["kind"], value["apiVersion"])
        place = {"namespace": namespace} if resource.namespaced else {}
        try:
            made = resource.create(body=value, **place)
        except ConflictError:
            name = value["metadata"]["name"]
            merge = "application/merge-patch+json"
            made = resource.patch(body=value, name=name, content_type=merge, **place)
        return dict(made.to_dict())

    def get(self, kind: str, name: str, namespace: str = "default") -> Json | None:
        """Return the object of that name, None where there is none."""
        resource = self._resource(kind)
        place = {"namespace": namespace} if resource.namespaced else {}
        try:
            return dict(resource.get(name=name, **place).to_dict())
        except NotFoundError:
            return None

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete the object of that name at once, and wait until it is gone."""
        resource = self._resource(kind)
        place = {"namespace": namespace} if resource.namespaced else {}
        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        try:
            resource.delete(name=name, body=options, **place)
        except NotFoundError:
            return
        wait_for(f"{name} is gone", lambda: self.get(kind, name, namespace) is None, POD_TIME_S)

    def _resource(self, kind: str, version: str | None = None) -> Any:
        wanted = {"api_version": version} if version else {}
        found = self.client.resources.search(kind=kind, **wanted)
        return next(each for each in found if not each.kind.endswith("List"))

    # --- pods ---

    def pod(self, name: str, holds: Callable[[Json], Any]) -> Json:
        """Wait until the pod of that name satisfies *holds*, and return it."""
        give_up_at = time.monotonic() + POD_TIME_S
        while True:
            found = self.get("Pod", name)
            if found is not None and holds(found):
                return found
            assert time.monotonic() < give_up_at, f"{found}\n{self.node.kubelet.log[-6000:]}"
            time.sleep(0.05)

    def pod_of(self, app: str) -> str:
        """Wait for the pod that a controller makes for *app*, and return its name."""
        pods = self._resource("Pod", "v1")
        names: list[str] = []

        def is_there() -> bool:
            found = pods.get(namespace="default", label_selector=f"app={app}")
            names[:] = [each.metadata.name for each in found.items]
            return bool(names)

        wait_for(f"a pod of {app}", is_there, POD_TIME_S)
        return names[0]

    def debug(self, name: str, container: Json) -> None:
        """Put a container into a running pod, as `kubectl debug` does."""
        subresource = self._resource("Pod", "v1").subresources["ephemeralcontainers"]
        body = {"spec": {"ephemeralContainers": [container]}}
        merge = "application/strategic-merge-patch+json"
        subresource.patch(body=body, name=name, namespace="default", content_type=merge)

    # --- the account that kepler-ebpf has ---

    def apply_deployment(self, *components: str) -> None:
        """Apply what deploy/kustomize says of accounts and rights, with these *components*."""
        folder = Path(tempfile.mkdtemp(dir=self.home.folder))
        kustomization = {
            "resources": [os.path.relpath(KUSTOMIZE / "overlays/least-privilege", folder)],
            "components": [
                os.path.relpath(KUSTOMIZE / "components" / name, folder) for name in components
            ],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        for each in kustomize(folder):
            if each["kind"] in {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}:
                self.put(each, NAMESPACE)

    def token(self, seconds: int = 3600) -> str:
        """Ask for a token of kepler-ebpf's account."""
        account = self._resource("ServiceAccount", "v1")
        body = {"spec": {"expirationSeconds": seconds}}
        made = account.subresources["token"].create(body=body, name=ACCOUNT, namespace=NAMESPACE)
        return str(made.status.token)

    def kubeconfig(self, folder: Path, token: str, ca: Path | None = None) -> Path:
        """Write the kubeconfig of an account whose token is in the file "token" beside it."""
        file = folder / "token"
        file.write_text(token)
        user = {"tokenFile": str(file)}
        trusted = ca or self.brain.authority.ca
        return write_kubeconfig(folder / "config", self.brain.url, trusted, user)

    def foreign_ca(self) -> Path:
        """Return the certificate of a CA that has signed nothing here."""
        return Authority(Path(tempfile.mkdtemp(dir=self.home.folder)) / "pki").ca

    def restart_apiserver(self) -> None:
        """Kill the API server and start it again."""
        self.brain.apiserver.kill()
        self.brain.start_apiserver()


@contextmanager
def running_cluster(folder: Path, programs: Path) -> Iterator[Cluster]:
    """Run a cluster whose files are all in *folder*, which is removed in the end."""
    with enclosure(folder) as home:
        made = Cluster(home, programs)
        made.start()
        yield made
