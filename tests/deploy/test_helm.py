"""The Helm chart, rendered by helm and held against the schemas of Kubernetes."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from manifests import (
    CHART,
    DEPLOY,
    JOB,
    NEWEST,
    OLDEST,
    Json,
    assert_valid,
    chart,
    config_of,
    container,
    helm,
    the,
)

from kepler_ebpf.config.options import Config

EVERYTHING = (
    "podMonitor.enabled=true",
    "podMonitor.sampleLimit=50000",
    "seccompInstall.enabled=true",
    "config.web.listenAddresses[0]=:28282",
    "podMonitor.metricRelabelings[0].action=drop",
    "podMonitor.metricRelabelings[0].sourceLabels[0]=__name__",
    "podMonitor.metricRelabelings[0].regex=kepler_process_.*",
    "prometheusRule.enabled=true",
    "prometheusRule.cost.enabled=true",
    "dashboards.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.from[0].namespaceSelector.matchLabels.name=monitoring",
    "networkPolicy.to[0].ipBlock.cidr=10.0.0.1/32",
    "extraArgs[0]=--log.level=debug",
    "extraEnv[0].name=HTTPS_PROXY",
    "extraEnv[0].value=http://proxy",
    "extraEnvFrom[0].configMapRef.name=more",
    "extraVolumes[0].name=ca",
    "extraVolumes[0].configMap.name=ca",
    "extraVolumeMounts[0].name=ca",
    "extraVolumeMounts[0].mountPath=/ca",
    "imagePullSecrets[0].name=registry",
    "hostNetwork=true",
    "commonLabels.team=green",
    "podLabels.tier=node",
    "podAnnotations.note=x",
    "serviceAccount.annotations.note=x",
    "service.annotations.note=x",
    "appArmorProfile.type=Unconfined",
    "seLinuxOptions.type=spc_t",
    f"image.digest=sha256:{'0' * 64}",
)
"""Every optional part at once, for the schemas."""


@pytest.mark.parametrize("profile", ["privileged", "least-privilege", "multi-tenant"])
@pytest.mark.parametrize("settings", [(), EVERYTHING], ids=["defaults", "everything"])
def test_every_object_is_valid(profile: str, settings: tuple[str, ...]) -> None:
    """Each rendered object has only fields that its schema knows, of the right shape."""
    for each in chart(f"profile={profile}", *settings):
        assert_valid(each)


def test_old_cluster_takes_the_defaults() -> None:
    """Nothing that is on by default is younger than the oldest cluster the chart allows."""
    for each in chart("profile=least-privilege", version=OLDEST):
        assert_valid(each, OLDEST)


def test_lint_has_no_complaint() -> None:
    """Helm's own linter finds neither errors nor warnings."""
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("profile=root", "profile"),
        ("capabilities[0]=CAP_BPF", "capabilities"),
        ("config.kube.podInformer.mode=api", "mode"),
        ("port=99999", "port"),
        ("podmonitor.enabled=true", "podmonitor"),
        ("config.web.listenAddresses=:28282", "listenAddresses"),
    ],
)
def test_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    """A value that is out of range, or a misspelled key, stops helm and is named."""
    done = helm("template", "x", CHART, "--kube-version", NEWEST, "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr


def test_both_monitors_are_refused() -> None:
    """Scraping each node twice is a mistake, so it is told, not rendered."""
    both = ("--set", "podMonitor.enabled=true,serviceMonitor.enabled=true")
    done = helm("template", "x", CHART, "--kube-version", NEWEST, *both)
    assert done.returncode != 0
    assert "enable one of the two" in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("config.web.listenAddresses[0]=:9102",), "(:9102) lacks the port 28282"),
        (("config.web.listenAddresses[0]=[::1]:28282", "port=9102"), "lacks the port 9102"),
        (("extraArgs[0]=--web.listen-address=:9102",), "in place of --web.listen-address"),
        (("extraArgs[0]=--web.listen-address", "extraArgs[1]=:9102"), "extraArgs: set port"),
    ],
)
def test_two_ports_are_refused(settings: tuple[str, ...], said: str) -> None:
    """An address that neither a probe nor a scrape would find stops helm, with the remedy."""
    sets = [argument for setting in settings for argument in ("--set", setting)]
    done = helm("template", "x", CHART, "--kube-version", NEWEST, *sets)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        ((), (":28282",)),
        (("port=9102",), (":9102",)),
        (
            ("config.web.listenAddresses={127.0.0.1:9102,10.0.0.1:9103}", "port=9103"),
            ("127.0.0.1:9102", "10.0.0.1:9103"),
        ),
    ],
)
def test_one_place_says_where_to_listen(
    settings: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    """The configuration's addresses are those that are listened on, without them the port is."""
    rendered = chart(*settings)
    told = [
        argument.removeprefix("--web.listen-address=")
        for argument in container(rendered)["args"]
        if argument.startswith("--web.listen-address")
    ]
    config = yaml.safe_load(the("ConfigMap", rendered)["data"]["config.yaml"])
    assert (*told, *config.get("web", {}).get("listenAddresses", ())) == addresses
    (port,) = container(rendered)["ports"]
    assert any(address.endswith(f":{port['containerPort']}") for address in addresses)


@pytest.mark.parametrize(
    ("monitor", "endpoints"),
    [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")],
)
def test_job_is_the_one_of_rules_and_dashboards(monitor: str, endpoints: str) -> None:
    """However the release is called, its series have the job that alerts and panels ask for."""
    switch = f"{monitor[0].lower()}{monitor[1:]}.enabled=true"
    rendered = the(monitor, chart("nameOverride=power", "fullnameOverride=x", switch))
    (endpoint,) = rendered["spec"][endpoints]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": JOB}]
    assert_valid(rendered)


@pytest.mark.parametrize("monitor", ["PodMonitor", "ServiceMonitor"])
def test_scrapes_are_limited(monitor: str) -> None:
    """A page that explodes is refused as a whole; 0 takes a limit away."""
    values = f"{monitor[0].lower()}{monitor[1:]}"
    limits = {"labelLimit": 64, "labelNameLengthLimit": 512, "labelValueLengthLimit": 512}
    limited = the(monitor, chart(f"{values}.enabled=true"))["spec"]
    assert limited.items() >= {**limits, "sampleLimit": 200_000}.items()
    none = (f"{values}.{limit}=0" for limit in (*limits, "sampleLimit"))
    assert not the(monitor, chart(f"{values}.enabled=true", *none))["spec"].keys() & limits.keys()


def test_service_monitor_is_valid_and_finds_the_service() -> None:
    """The other monitor selects the service by its labels and its port by name."""
    rendered = chart("serviceMonitor.enabled=true")
    monitor, service = the("ServiceMonitor", rendered), the("Service", rendered)
    assert_valid(monitor)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


NOTES = """notes: |
{{ include (print $.Template.BasePath "/NOTES.txt") . | indent 2 }}
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), "--set profile=least-privilege"),
        (("profile=least-privilege",), "--set profile=multi-tenant"),
        (("profile=multi-tenant",), "reads no files of others"),
        (("profile=multi-tenant",), "processes of root's that hold no\ncapabilities"),
        (("profile=multi-tenant",), "reads all memory and ends processes by BPF"),
        (("hostNetwork=true", "networkPolicy.enabled=true"), "The network policy does nothing"),
    ],
)
def test_notes_say_what_the_choice_means(
    tmp_path: Path, settings: tuple[str, ...], said: str
) -> None:
    """Whoever installs reads what the profile gives away, and which one gives less."""
    # An installation prints notes, which needs a cluster; a template may include them.
    shutil.copytree(CHART, tmp_path / "chart")
    (tmp_path / "chart/templates/notes.yaml").write_text(NOTES)
    sets = [argument for setting in settings for argument in ("--set", setting)]
    one = ("--kube-version", NEWEST, "--show-only", "templates/notes.yaml")
    done = helm("template", "x", tmp_path / "chart", *one, *sets)
    assert said in yaml.safe_load(done.stdout)["notes"]


def test_seccomp_profile_is_put_where_the_kubelet_looks() -> None:
    """An init container without rights copies the file; the exporter runs under it."""
    rendered = chart("profile=multi-tenant", "seccompInstall.enabled=true")
    profile = the("ConfigMap", rendered)["data"]["seccomp.json"]
    assert json.loads(profile) == json.loads((DEPLOY / "seccomp/kepler-ebpf.json").read_text())
    pod = the("DaemonSet", rendered)["spec"]["template"]["spec"]
    (copying,) = pod["initContainers"]
    assert copying["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    (folder,) = (each["hostPath"]["path"] for each in pod["volumes"] if each["name"] == "seccomp")
    assert folder == "/var/lib/kubelet/seccomp"
    used = container(rendered)["securityContext"]["seccompProfile"]
    assert used == {"type": "Localhost", "localhostProfile": Path(copying["command"][-1]).name}
    assert not any(each["name"] == "seccomp" for each in container(rendered)["volumeMounts"])


def test_privileged_is_the_default_profile() -> None:
    """Without a choice it runs everywhere; the root file system is read-only all the same."""
    rights = container(chart())["securityContext"]
    assert rights == {"privileged": True, "readOnlyRootFilesystem": True, "runAsUser": 0}


@pytest.mark.parametrize(
    ("settings", "version", "rule"),
    [
        ((), NEWEST, ("pods", ["list", "watch"])),
        (("config.kube.podInformer.mode=kubelet",), NEWEST, ("nodes/pods", ["get"])),
        (("config.kube.podInformer.mode=kubelet",), "1.32.0", ("nodes/proxy", ["get"])),
        (
            ("config.kube.podInformer.mode=kubelet", "rbac.kubeletResource=nodes/proxy"),
            NEWEST,
            ("nodes/proxy", ["get"]),
        ),
    ],
)
def test_role_holds_one_rule_for_the_mode(
    settings: tuple[str, ...], version: str, rule: tuple[str, list[str]]
) -> None:
    """Each way to learn of pods has exactly the right that it uses, of this cluster's version."""
    (found,) = the("ClusterRole", chart(*settings, version=version))["rules"]
    assert found == {"apiGroups": [""], "resources": [rule[0]], "verbs": rule[1]}


def test_without_kubernetes_there_is_no_role_and_no_token() -> None:
    """What asks the API for nothing may ask nothing."""
    rendered = chart("config.kube.enabled=false", "networkPolicy.enabled=true")
    assert not [each for each in rendered if each["kind"].startswith("ClusterRole")]
    pod = the("DaemonSet", rendered)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert the("NetworkPolicy", rendered)["spec"]["egress"] == []


def test_configuration_is_read_without_a_warning(tmp_path: Path) -> None:
    """The program takes the file as the chart renders it, and means the same by it."""
    (tmp_path / "config.yaml").write_text(the("ConfigMap", chart())["data"]["config.yaml"])
    config = config_of(tmp_path / "config.yaml")
    assert config.kube_enabled
    assert config.kube_mode == "apiserver"
    assert config.metrics_levels == Config().metrics_levels


def test_changed_configuration_starts_the_pods_anew() -> None:
    """The pod template changes with the configuration, so the daemon set rolls."""
    assert _checksum(chart()) != _checksum(chart("config.monitor.interval=5s"))
    assert _checksum(chart()) == _checksum(chart("port=9102"))


def _checksum(rendered: list[Json]) -> str:
    template = the("DaemonSet", rendered)["spec"]["template"]
    return str(template["metadata"]["annotations"]["checksum/config"])


def test_probes_are_no_scrapes() -> None:
    """Kubernetes asks the two cheap endpoints."""
    rendered = container(chart())
    assert rendered["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert rendered["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_rules_are_those_of_the_prometheus_folder() -> None:
    """The chart's rules are the tested files, the factors its own values."""
    rendered = chart(
        "prometheusRule.enabled=true",
        "prometheusRule.cost.enabled=true",
        "prometheusRule.cost.pricePerKwh=0.4",
    )
    groups = {group["name"]: group for group in the("PrometheusRule", rendered)["spec"]["groups"]}
    price = groups.pop("kepler-ebpf-factors")["rules"][0]
    assert price == {"record": "kepler_ebpf:price_per_kwh", "expr": "vector(0.4)"}
    files = [
        DEPLOY / "prometheus/rules" / f"{name}.yaml" for name in ("recording", "alerts", "cost")
    ]
    wanted = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert list(groups.values()) == wanted


def test_what_the_readme_shows_is_valid(tmp_path: Path) -> None:
    """Its manifests fit their schemas, its values the chart, and no two releases share a node."""
    text = (DEPLOY / "README.md").read_text()
    blocks = list(map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)))
    for manifest in blocks:
        if "kind" in manifest:
            assert_valid(manifest)
    first, second = (each for each in blocks if {"affinity", "nodeSelector"} & each.keys())
    for values in (first, second):
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
        done = helm(
            *("template", "x", CHART, "--kube-version", NEWEST, "-f", tmp_path / "values.yaml")
        )
        assert done.returncode == 0, done.stderr
    (term,) = first["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    (left,) = term["matchExpressions"]
    assert left == {"key": next(iter(second["nodeSelector"])), "operator": "DoesNotExist"}


def test_dashboards_are_carried_whole() -> None:
    """Each dashboard is in a ConfigMap of its own, byte for byte, with the sidecar's label."""
    maps = {
        name: (text, each["metadata"]["labels"])
        for each in chart("dashboards.enabled=true")
        if each["kind"] == "ConfigMap"
        for name, text in each["data"].items()
        if name.endswith(".json")
    }
    files = {f"kepler-ebpf-{file.name}": file for file in (DEPLOY / "grafana/dashboards").iterdir()}
    assert maps.keys() == files.keys()
    for name, (text, labels) in maps.items():
        assert text.strip() == files[name].read_text().strip()
        assert labels["grafana_dashboard"] == "1"
