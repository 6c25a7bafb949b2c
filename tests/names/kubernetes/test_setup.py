"""Wrong input at the start of a pod source, and what Kubernetes costs in memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kube_certificates import expired_oidc, write_kubeconfig, write_login
from kube_rig import Rig, rig_of
from kube_server import (
    NODE,
    KubeServer,
    make_pod,
    status,
    wait_until,
)

from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.names.kubernetes.api_errors import ApiError
from kepler_ebpf.names.kubernetes.pacing import Backoff
from kepler_ebpf.names.kubernetes.start import PodSourceOptions, start_pod_source

K8S_RSS_MB = 45
CONTEXT = b"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"


pytest_plugins = ["kube_fixtures"]


class TestSetup:
    """Wrong input at the start."""

    def test_client_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever installed without the extra is told how to get it."""
        monkeypatch.setitem(sys.modules, "kubernetes", None)
        with pytest.raises(SetupError, match=r"pip install 'kepler-ebpf\[kubernetes\]'"):
            start_pod_source(PodSourceOptions("apiserver", NODE))

    def test_kubeconfig_missing(self, tmp_path: Path) -> None:
        """The file and the flag are named."""
        path = str(tmp_path / "absent")
        with pytest.raises(ConfigError, match=r"(?s)absent: No such file.*--kube\.config"):
            start_pod_source(PodSourceOptions("apiserver", NODE, path))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"just text",
            b"[1, 2]",
            b"{a: b: c}",
            b"\xff\xfe\x00",
            b"kind: Config",
            b"clusters: 5\ncurrent-context: x\ncontexts: []",
            b"current-context: a\ncontexts: [{name: a, context: {cluster: none}}]",
            CONTEXT + b"clusters: [{name: c, cluster: {}}]",
            CONTEXT + b"clusters: [{name: c, cluster: {server: 'https://x', "
            b"certificate-authority: absent}}]",
        ],
    )
    def test_kubeconfig_invalid(self, tmp_path: Path, content: bytes) -> None:
        """Whatever is in it, the error names the file."""
        path = tmp_path / "config"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"the kubeconfig .*config is not valid"):
            start_pod_source(PodSourceOptions("apiserver", NODE, str(path)))

    @pytest.mark.parametrize("key", ["certificate-authority-data", "client-certificate-data"])
    def test_kubeconfig_with_a_certificate_that_is_none(self, tmp_path: Path, key: str) -> None:
        """Data that is not a certificate is told at the start, not at the first request."""
        cluster, user = {"server": "https://127.0.0.1:1"}, {"client-key-data": "AAAA"}
        (cluster if key.startswith("certificate") else user)[key] = "AAAA"
        config = {
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": cluster}],
            "users": [{"name": "a", "user": user}],
        }
        path = tmp_path / "config"
        path.write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(
            ConfigError, match=r"https://127.0.0.1:1, .* (certificate|with its key)"
        ):
            start_pod_source(PodSourceOptions("apiserver", NODE, str(path)))

    def test_no_credentials_at_all(self, tmp_path: Path) -> None:
        """Outside a pod and without a kubeconfig the remedy is told."""
        with pytest.raises(ConfigError, match="give a kubeconfig"):
            start_pod_source(PodSourceOptions("apiserver", NODE, service_account_dir=tmp_path))

    @pytest.mark.parametrize("name", ["Node-A", "a,b", "a b", "a=b", "-a", "x" * 254, 'a"'])
    def test_name_that_no_node_can_have(self, name: str) -> None:
        """A name that would break the selector is refused with what is allowed."""
        with pytest.raises(ConfigError, match="cannot be a node's name"):
            start_pod_source(PodSourceOptions("apiserver", name))

    def test_no_node_name(self) -> None:
        """The key is named when it is empty."""
        with pytest.raises(ConfigError, match=r"kube\.nodeName"):
            start_pod_source(PodSourceOptions("apiserver", ""))

    def test_node_the_cluster_does_not_have(
        self, server: KubeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A node name nobody has is told once, clearly, and the source goes on."""
        rig = rig_of(write_kubeconfig(tmp_path / "c", server.url), "node-x")
        rig.follower.step()
        server.answer_next("watch", status(410))
        with pytest.raises(ApiError):
            rig.follower.step()
        rig.follower.step()
        assert caplog.text.count("no node named node-x") == 1
        assert rig.errors == {}

    def test_empty_node_without_the_right_to_look(
        self, server: KubeServer, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without rights on nodes a node without pods is a milder warning, no error."""
        server.answer_next("node", status(403, "nodes is forbidden"))
        rig.follower.step()
        assert f"no pod on a node named {NODE}" in caplog.text
        assert rig.errors == {}

    def test_start_does_not_wait_for_the_api(self, tmp_path: Path) -> None:
        """With the API down the start returns and the thread keeps trying."""
        kubeconfig = write_kubeconfig(tmp_path / "c", "http://127.0.0.1:1")
        options = PodSourceOptions("apiserver", NODE, kubeconfig, backoff=Backoff(0.001, 0.01))
        source = start_pod_source(options)
        try:
            wait_until(lambda: source.status.errors.get("network", 0) > 3)
            assert source.index.pods() == ()
        finally:
            source.close()


class TestLogin:
    """Users who have no token in their file: a command or a server gives it."""

    def test_identity_provider_that_is_down(
        self, server: KubeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The start does without it, and the thread tries until it has a token."""
        path = tmp_path / "c"
        write_login(path, {"server": server.url}, expired_oidc("http://127.0.0.1:1"))
        options = PodSourceOptions("apiserver", NODE, str(path), backoff=Backoff(0.001, 0.01))
        source = start_pod_source(options)
        try:
            wait_until(lambda: source.status.errors.get("credentials", 0) > 2)
            write_kubeconfig(path, server.url)
            wait_until(lambda: source.status.up)
        finally:
            source.close()
        told = [text for text in caplog.messages if "cannot be logged in" in text]
        assert len(told) == 1
        assert "127.0.0.1" in told[0]
        assert set(source.status.errors) == {"credentials"}

    def test_command_that_takes_its_time(self, server: KubeServer, tmp_path: Path) -> None:
        """The start does not wait for it; the token it gives is used."""
        server.state.token = "given"
        api = "client.authentication.k8s.io/v1"
        given = {"apiVersion": api, "kind": "ExecCredential", "status": {"token": "given"}}
        shell = f"sleep 4; echo '{json.dumps(given)}'"
        command = {"apiVersion": api, "command": "sh", "args": ["-c", shell]}
        path = write_login(tmp_path / "c", {"server": server.url}, {"exec": command})
        began_s = time.monotonic()
        source = start_pod_source(PodSourceOptions("apiserver", NODE, path))
        took_s = time.monotonic() - began_s
        try:
            wait_until(lambda: source.status.up)
        finally:
            source.close()
        assert took_s < 4
        assert source.status.errors == {}

    @pytest.mark.parametrize(
        "cluster", [{}, {"server": "https://x", "certificate-authority": "no"}]
    )
    def test_wrong_file_is_told_at_the_start_all_the_same(
        self, tmp_path: Path, cluster: dict[str, str]
    ) -> None:
        """What needs no login is looked at without one."""
        path = write_login(tmp_path / "c", cluster, expired_oidc("http://127.0.0.1:1"))
        with pytest.raises(ConfigError, match="is not valid"):
            start_pod_source(PodSourceOptions("apiserver", NODE, path))


class TestMemory:
    """What Kubernetes costs."""

    def test_kubernetes_is_not_imported_before_it_is_on(self) -> None:
        """Importing the sources imports neither kubernetes nor urllib3."""
        code = (
            "import sys, kepler_ebpf.names.kubernetes.start; "
            "print([m for m in ('kubernetes', 'urllib3') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert done.stdout == b"[]\n"

    def test_k8s_rss_mb(self, server: KubeServer, tmp_path: Path) -> None:
        """A process that follows 500 pods is at most 45 MB larger than before it did."""
        for number in range(500):
            server.put(make_pod(number))
        kubeconfig = write_kubeconfig(tmp_path / "c", server.url)
        done = subprocess.run(
            [sys.executable, "-c", RSS_SCRIPT, kubeconfig],
            check=True,
            capture_output=True,
            text=True,
        )
        assert float(done.stdout) <= K8S_RSS_MB


RSS_SCRIPT = """
import sys, time
import click, numpy, prometheus_client, yaml
from kepler_ebpf.names.kubernetes.start import PodSourceOptions, start_pod_source
def rss_mb():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
before = rss_mb()
source = start_pod_source(PodSourceOptions("apiserver", "node-a", sys.argv[1]))
while source.index.live_pods < 500:
    time.sleep(0.01)
print(rss_mb() - before)
source.close()
"""
