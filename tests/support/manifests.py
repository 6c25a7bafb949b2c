"""Renders the manifests of deploy/ with the real tools, and holds them against real schemas."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator
from tools import tool

from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.option import Setting
from kepler_ebpf.config.options import Config

Json = dict[str, Any]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "kepler-ebpf"
KUSTOMIZE = DEPLOY / "kustomize"

JOB = "kepler-ebpf"
"""The scrape job that the rules and the dashboards ask for."""

NEWEST = "1.37.0"
OLDEST = "1.25.0"
"""Of the Kubernetes versions that the schemas are held for."""

OPERATOR_KINDS: dict[str, Any] = {
    "PodMonitor": operator.PodMonitor,
    "PrometheusRule": operator.PrometheusRule,
    "ServiceMonitor": operator.ServiceMonitor,
}


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm; the caller looks at its exit status."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, check=False)


def chart(*settings: str, version: str = NEWEST) -> list[Json]:
    """Render the chart as release "kepler" in namespace "energy" with these --set *settings*."""
    sets = [argument for setting in settings for argument in ("--set", setting)]
    place = ("--namespace", "energy", "--kube-version", version)
    done = helm("template", "kepler", CHART, *place, *sets)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def kustomize(folder: Path) -> list[Json]:
    """Build the kustomization in *folder*."""
    command = (tool("kustomize"), "build", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def objects(text: str) -> list[Json]:
    """Parse a stream of YAML documents, without the empty ones."""
    return [each for each in yaml.safe_load_all(text) if each]


def the(kind: str, among: Iterable[Json]) -> Json:
    """Return the one object of this *kind*."""
    (found,) = (each for each in among if each["kind"] == kind)
    return found


def container(among: Iterable[Json]) -> Json:
    """Return the daemon set's one container."""
    (found,) = the("DaemonSet", among)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def assert_valid(each: Json, version: str = NEWEST) -> None:
    """Hold an object against its schema; a field that the schema lacks fails too."""
    if each["kind"] in OPERATOR_KINDS:
        model = OPERATOR_KINDS[each["kind"]].model_validate(each)
        # The models drop what they don't know, so what comes back must be what went in.
        assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == each
    else:
        kubernetes_validate.validate(each, version, strict=True)


def config_of(path: Path) -> Config:
    """Return what the program reads from a configuration file, which must cause no warning.

    The file is for a container, where the host's /sys and /proc are below /host.
    """
    assert yaml.safe_load(path.read_text())["host"] == {
        "sysfs": "/host/sys",
        "procfs": "/host/proc",
    }
    here = {
        "host.sysfs": Setting("/sys", "here"),
        "host.procfs": Setting("/proc", "here"),
        "kube.nodeName": Setting("node-a", "here"),
    }
    loaded = load_config(here, str(path))
    assert loaded.warnings == ()
    return loaded.config
