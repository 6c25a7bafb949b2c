"""Configuration files: Kepler's own load, and every fault is named with its file, line and key."""

from pathlib import Path

import pytest

from kepler_ebpf.config.load import Loaded, load_config
from kepler_ebpf.config.option import Setting
from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError

KEPLER_FILE = """\
log: {level: warn, format: json}
monitor:
  interval: 5s
  staleness: 500ms
  maxTerminated: 100
  minTerminatedEnergyThreshold: 20
host:
  sysfs: /sys
  procfs: /proc
cpu:
  preferredMeters: [rapl, hwmon]
rapl:
  zones: [package, dram]
exporter:
  stdout:
    enabled: true
  prometheus:
    enabled: true
    debugCollectors: [go]
    metricsLevel: [node, pod]
web:
  configFile: ""
  listenAddresses:
    - 127.0.0.1:28283
debug:
  pprof:
    enabled: true
kube:
  enabled: true
  config: ""
  nodeName: node-1
  podInformer:
    mode: apiserver
    pollInterval: 30s
experimental:
  platform:
    redfish: {enabled: true, nodeName: n, configFile: /etc/redfish.yaml, httpTimeout: 5s}
  hwmon:
    zones: [package]
    chipRules:
      - {name: zenpower, labels: [SVI2_P_Core]}
  gpu: {enabled: true, idlePower: 10, dcgmEndpoint: "http://localhost:9400"}
dev:
  fake-cpu-meter:
    enabled: true
    zones: [package, core]
"""


def load(folder: Path, text: str | bytes) -> Loaded:
    """Load a file of this text, without flags."""
    path = folder / "kepler.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config({}, str(path))


# --- what loads -------------------------------------------------------------------------------


def test_whole_kepler_file_loads(tmp_path: Path) -> None:
    """Every key of Kepler's that we support has its effect."""
    assert load(tmp_path, KEPLER_FILE).config == Config(
        log_level="warn",
        log_format="json",
        interval_s=5.0,
        staleness_s=0.5,
        max_terminated=100,
        min_terminated_energy_j=20.0,
        preferred_meters=("rapl",),
        rapl_zones=("package", "dram"),
        stdout_enabled=True,
        metrics_levels=frozenset({"node", "pod"}),
        listen_addresses=("127.0.0.1:28283",),
        kube_enabled=True,
        kube_node_name="node-1",
        node_name="node-1",
        kube_mode="apiserver",
        kube_poll_interval_s=30.0,
        fake_enabled=True,
        fake_zones=("package", "core"),
    )


def test_what_kepler_has_and_we_lack_is_named_once(tmp_path: Path) -> None:
    """One warning for each feature that is asked for in vain, with its place in the file."""
    warnings = load(tmp_path, KEPLER_FILE).warnings
    assert [warning.split(": ", 1)[1].split(" ")[0] for warning in warnings] == [
        "debug.pprof.enabled",
        "experimental.platform.redfish.enabled",
        "experimental.hwmon.zones",
        "experimental.gpu.enabled",
        "kepler-ebpf",
    ]


def test_what_kepler_has_and_is_off_is_not_named(tmp_path: Path) -> None:
    """The file that Kepler comes with names everything it could do, and asks for little."""
    text = """\
experimental:
  platform:
    redfish: {enabled: false, nodeID: "", nodeName: "", configFile: /r.yaml, staleness: 30s}
  hwmon: {enabled: false, forceEnabled: false, zones: [], chipRules: []}
  gpu: {enabled: false, idlePower: 0, dcgmEndpoint: ""}
"""
    assert load(tmp_path, text) == Loaded(Config(), ())


@pytest.mark.parametrize("key", ["enabled", "forceEnabled"])
def test_hwmon_metering_is_named_once(tmp_path: Path, key: str) -> None:
    """Under both names that Kepler has had for its switch."""
    (warning,) = load(
        tmp_path, f"experimental: {{hwmon: {{{key}: true, zones: [power1]}}}}"
    ).warnings
    assert warning.endswith(
        f"experimental.hwmon.{key} has no effect: hwmon metering is not supported"
    )


def test_our_own_keys_load(tmp_path: Path) -> None:
    """What Kepler has no key for stands under ebpf."""
    text = """\
ebpf: {meter: fake, loader: bcc, stats: true, mapEntries: 2048, cgroupHierarchy: v2,
       nodeName: n, terminatedRetention: 30s, units: true, podLabels: [app, a.io/b],
       kubelet: {host: 10.0.0.1, ca: /etc/ca.crt, verify: false}}
"""
    assert load(tmp_path, text).config == Config(
        meter="fake",
        bpf_loader="bcc",
        bpf_stats=True,
        map_entries=2048,
        cgroup_hierarchy="v2",
        node_name="n",
        terminated_retention_s=30.0,
        units=True,
        pod_labels=("app", "a.io/b"),
        kubelet_host="10.0.0.1",
        kubelet_ca="/etc/ca.crt",
        kubelet_verify=False,
    )


def test_flag_goes_before_the_file(tmp_path: Path) -> None:
    """A setting given both ways is the flag's."""
    path = tmp_path / "kepler.yaml"
    path.write_text("monitor: {interval: 5s, maxTerminated: 7}\n")
    config = load_config({"monitor.interval": Setting("2s", "--interval")}, str(path)).config
    assert (config.interval_s, config.max_terminated) == (2.0, 7)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "monitor:\n", "{}\n"])
def test_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    """A file or a section with nothing in it gives nothing."""
    assert load(tmp_path, text) == Loaded(Config(), ())


@pytest.mark.parametrize("text", ["monitor:\n  interval:\n", "monitor: {interval: ~}\n"])
def test_key_without_a_value_is_not_given(tmp_path: Path, text: str) -> None:
    """A key left blank keeps its default."""
    assert load(tmp_path, text).config == Config()


def test_merged_map_is_overridden_by_own_keys(tmp_path: Path) -> None:
    """YAML's merge key works, and what stands in the map itself wins."""
    text = "base: &b {interval: 3s, staleness: 1s}\nmonitor: {<<: *b, interval: 2s}\n"
    config = load(tmp_path, text).config
    assert (config.interval_s, config.staleness_s) == (2.0, 1.0)


# --- unknown keys -----------------------------------------------------------------------------


def test_unknown_key_is_named_with_its_path_and_line(tmp_path: Path) -> None:
    """An unknown key is a warning with its line and the known key that is most like it."""
    (warning,) = load(tmp_path, "monitor:\n  intervall: 5s\n").warnings
    assert warning == (
        f"{tmp_path}/kepler.yaml, line 2: the key monitor.intervall is unknown and has no effect; "
        "did you mean monitor.interval?"
    )


def test_unknown_section_is_named_once(tmp_path: Path) -> None:
    """What is inside of an unknown section is not named again, and nothing is suggested."""
    (warning,) = load(tmp_path, "zoo: {ape: 1, bear: {cub: 2}}\n").warnings
    assert warning.endswith("line 1: the key zoo is unknown and has no effect")


def test_number_as_a_key_is_unknown(tmp_path: Path) -> None:
    """A key need not be a word to be named."""
    assert "the key 1 is unknown" in load(tmp_path, "1: 2\n").warnings[0]


def test_map_that_contains_itself_is_walked_once(tmp_path: Path) -> None:
    """An alias to its own map ends in a warning, not in a loop."""
    (warning,) = load(tmp_path, "monitor: &m {monitor: *m}\n").warnings
    assert "monitor.monitor is unknown" in warning


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("monitor:\n  interval: 0s\n", "line 2: monitor.interval: '0s' is not allowed"),
        ("ebpf: {allowedHosts: ['a:80']}\n", "line 1: ebpf.allowedHosts"),
        ("monitor: {interval: 5}\n", "line 1: monitor.interval: '5' is not allowed"),
        ("monitor: {interval: 1:30}\n", "'1:30' is not allowed"),
        ("monitor: {interval: 2024-13-45}\n", "'2024-13-45' is not allowed"),
        ("log:\n\n  level: off\n", "line 3: log.level: 'off' is not allowed"),
        ("monitor: {interval: [1s]}\n", "line 1: monitor.interval has a list"),
        ("rapl: {zones: package}\n", "line 1: rapl.zones has one value"),
        ("rapl:\n  zones:\n  - {a: b}\n", "line 3: rapl.zones holds a map"),
        ("monitor: {interval: {a: b}}\n", "line 1: monitor.interval holds a map"),
        ("- monitor\n", "line 1: holds a list"),
        ("monitor\n", "line 1: holds the value 'monitor'"),
        ("monitor: fast\n", "line 1: monitor holds the value 'fast'"),
        ("exporter:\n  prometheus: [a]\n", "line 2: exporter.prometheus holds a list"),
        ("log: {level: info}\nlog: {level: warn}\n", "line 2: log is given twice, first on line 1"),
        ("log:\n  level: info\n  level: info\n", "line 3: log.level is given twice"),
        ("zoo: [{a: 1, a: 2}]\n", "line 1: zoo.a is given twice"),
        ("? [a]\n: b\n", "line 1: a key is a list"),
        ("a: b: c\n", "line 1: not valid YAML: mapping values are not allowed here"),
        ("a: [1\n", "not valid YAML"),
        ("a: 1\n--- \nb: 2\n", "not valid YAML"),
        ("a: *nowhere\n", "line 1: not valid YAML"),
        ("a: \x07\n", "not valid YAML: special characters are not allowed"),
        ("monitor: {<<: 5}\n", "not valid YAML"),
        (b"a: \xff\xfe\n", "not a text file in UTF-8"),
        ("[" * 20_000, "nested too deeply"),
    ],
)
def test_fault_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    """The error names file, line and key, and its remedy says what to do."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.problem.startswith(f"{tmp_path}/kepler.yaml")
    assert said in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/no/such/file.yaml", "No such file or directory"),
        ("/etc", "Is a directory"),
        ("a\0b", "null byte"),
    ],
)
def test_unreadable_file_is_named(path: str, reason: str) -> None:
    """A file that is missing or no file is named with the reason."""
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config({}, path)
    assert path in str(caught.value)
