"""The kustomize overlays and components, built by kustomize and held against the schemas."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from manifests import (
    DEPLOY,
    JOB,
    KUSTOMIZE,
    OLDEST,
    Json,
    assert_valid,
    chart,
    config_of,
    container,
    kustomize,
    the,
)

from kepler_ebpf.cli import CONFIG_VARIABLE

OVERLAYS = ("privileged", "least-privilege", "multi-tenant")
COMPONENTS = ("kubelet", "network-policy", "prometheus-operator", "seccomp")


def built(tmp_path: Path, overlay: str, *components: str, namespace: str = "") -> list[Json]:
    """Build *overlay* with *components*, as a user's own kustomization does."""
    kustomization = {
        **({"namespace": namespace} if namespace else {}),
        "resources": [_relative(KUSTOMIZE / "overlays" / overlay, tmp_path)],
        "components": [_relative(KUSTOMIZE / "components" / each, tmp_path) for each in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(tmp_path)


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(tmp_path: Path, overlay: str) -> None:
    """Each object of an overlay with all components has only fields that its schema knows."""
    for each in built(tmp_path, overlay, *COMPONENTS):
        assert_valid(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_old_cluster_takes_an_overlay(overlay: str) -> None:
    """An overlay by itself holds nothing that is younger than the oldest supported cluster."""
    for each in kustomize(KUSTOMIZE / "overlays" / overlay):
        assert_valid(each, OLDEST)


def test_overlays_differ_in_rights_alone() -> None:
    """All else is the base's."""
    overlays = [kustomize(KUSTOMIZE / "overlays" / each) for each in OVERLAYS]
    privileged, least, shared = (container(each)["securityContext"] for each in overlays)
    assert privileged != least != shared
    for each in overlays:
        del the("DaemonSet", each)["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert overlays[0] == overlays[1] == overlays[2]


def test_everything_is_in_the_namespace_that_admits_it(tmp_path: Path) -> None:
    """The namespace admits hostPID and hostPath volumes, and all objects are in it."""
    rendered = built(tmp_path, "least-privilege", *COMPONENTS)
    labels = the("Namespace", rendered)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    cluster_wide = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
    places = {
        each["metadata"].get("namespace") for each in rendered if each["kind"] not in cluster_wide
    }
    assert places == {"kepler-ebpf"}


@pytest.mark.parametrize("namespace", ["", "monitoring"])
def test_role_is_bound_to_the_account_of_the_pods(tmp_path: Path, namespace: str) -> None:
    """Rights go to the account that the daemon set uses, in whatever namespace all of it is put."""
    rendered = built(tmp_path, "least-privilege", *COMPONENTS, namespace=namespace)
    (subject,) = the("ClusterRoleBinding", rendered)["subjects"]
    account, pods = the("ServiceAccount", rendered)["metadata"], the("DaemonSet", rendered)
    place = namespace or "kepler-ebpf"
    assert (subject["name"], subject["namespace"]) == (account["name"], place)
    assert account["namespace"] == pods["metadata"]["namespace"] == place
    assert pods["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]


def test_job_is_the_one_of_rules_and_dashboards(tmp_path: Path) -> None:
    """The pod monitor gives its series the job that alerts and panels ask for."""
    (endpoint,) = the("PodMonitor", built(tmp_path, "privileged", "prometheus-operator"))["spec"][
        "podMetricsEndpoints"
    ]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": JOB}]


def test_configuration_is_read_without_a_warning(tmp_path: Path) -> None:
    """The program takes both configuration files; they differ in where pods are asked for."""
    files = [KUSTOMIZE / folder / "config.yaml" for folder in ("base", "components/kubelet")]
    base, kubelet = map(config_of, files)
    assert (base.kube_mode, kubelet.kube_mode) == ("apiserver", "kubelet")
    assert dataclasses.replace(kubelet, kube_mode="apiserver") == base
    rendered = the("ConfigMap", built(tmp_path, "privileged", "kubelet"))
    assert rendered["data"]["config.yaml"] == files[1].read_text()


@pytest.mark.parametrize("render", [chart, lambda: kustomize(KUSTOMIZE / "overlays/privileged")])
def test_environment_of_the_pod_is_its_configuration(render: Callable[[], list[Json]]) -> None:
    """`kepler-ebpf check` in the pod, without a flag, reads what `run` reads."""
    (mount,) = (each for each in container(render())["volumeMounts"] if each["name"] == "config")
    variables = {each["name"]: each for each in container(render())["env"]}
    config = Path(variables[CONFIG_VARIABLE]["value"])
    assert str(config.parent) == mount["mountPath"]
    assert config.name in the("ConfigMap", render())["data"]
    assert variables["NODE_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


@pytest.mark.parametrize("render", [chart, lambda: kustomize(KUSTOMIZE / "overlays/privileged")])
def test_probes_ask_what_costs_nothing(render: Callable[[], list[Json]]) -> None:
    """No probe is a scrape, and each goes to the named port, wherever that is."""
    probes = {key: value for key, value in container(render()).items() if key.endswith("Probe")}
    asked = {
        key: (value["httpGet"]["path"], value["httpGet"]["port"]) for key, value in probes.items()
    }
    assert asked == {
        "startupProbe": ("/healthz", "metrics"),
        "livenessProbe": ("/healthz", "metrics"),
        "readinessProbe": ("/readyz", "metrics"),
    }


def test_kubelet_component_swaps_the_right(tmp_path: Path) -> None:
    """Who asks the kubelet may not list the cluster's pods, and the other way round."""
    base = the("ClusterRole", kustomize(KUSTOMIZE / "overlays/privileged"))["rules"]
    assert base == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    kubelet = the("ClusterRole", built(tmp_path, "privileged", "kubelet"))["rules"]
    assert kubelet == [{"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]}]


def test_kustomization_of_the_readme_is_built(tmp_path: Path) -> None:
    """It has every component, and its patch opens one more port of the API server."""
    text = (DEPLOY / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(resources: .*?)```", text, re.DOTALL)
    relative = example.replace("deploy/kustomize", _relative(KUSTOMIZE, tmp_path))
    (tmp_path / "kustomization.yaml").write_text(relative)
    rendered = kustomize(tmp_path)
    (rule,) = the("NetworkPolicy", rendered)["spec"]["egress"]
    assert {443, 6443, 10250, 16443} <= {each["port"] for each in rule["ports"]}
    assert all(component in example for component in COMPONENTS)
    for each in rendered:
        assert_valid(each)


def test_seccomp_profile_is_put_where_the_kubelet_looks(tmp_path: Path) -> None:
    """The component's init container copies the file, and the exporter runs under it."""
    rendered = built(tmp_path, "multi-tenant", "seccomp")
    pod = the("DaemonSet", rendered)["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    named = volumes["profile"]["configMap"]["name"]
    (files,) = (each["data"] for each in rendered if each["metadata"]["name"] == named)
    assert json.loads(files["kepler-ebpf.json"])["defaultAction"] == "SCMP_ACT_ERRNO"
    assert volumes["seccomp"]["hostPath"]["path"] == "/var/lib/kubelet/seccomp"
    used = container(rendered)["securityContext"]
    assert used["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": Path(pod["initContainers"][0]["command"][-1]).name,
    }
    assert used["capabilities"]["add"] == ["BPF", "PERFMON"]


def test_rendered_files_are_up_to_date(checkout: Path, tmp_path: Path) -> None:
    """The dashboards and the PrometheusRule are what scripts/render_deploy.py writes today."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", symlinks=True)
    script = checkout / "scripts" / "render_deploy.py"
    subprocess.run([sys.executable, script, tmp_path / "deploy"], check=True)
    for path in (tmp_path / "deploy").rglob("*"):
        if path.is_file():
            committed = DEPLOY / path.relative_to(tmp_path / "deploy")
            assert path.read_text() == committed.read_text(), f"{committed}: run {script}"
