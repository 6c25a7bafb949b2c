"""Flags, defaults and values: what is taken, what is refused and how that is said."""

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.config import values
from kepler_ebpf.config.load import load_config
from kepler_ebpf.config.option import Setting
from kepler_ebpf.config.options import OPTIONS, Config
from kepler_ebpf.config.unsupported import UNSUPPORTED
from kepler_ebpf.errors import ConfigError


def load(**texts: str | tuple[str, ...]) -> Config:
    """Load settings given as flags, a dot in a key being written as two underscores."""
    settings = {key.replace("__", "."): value for key, value in texts.items()}
    return load_config({key: Setting(value, f"--{key}") for key, value in settings.items()}).config


def warnings_of(key: str, value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Load one setting and return the warnings."""
    return load_config({key: Setting(value, "--flag")}).warnings


# --- defaults and the table -------------------------------------------------------------------


def test_nothing_given_is_the_defaults() -> None:
    """Without flags and file the Config is the one made without arguments."""
    assert load_config({}).config == Config()


def test_nothing_given_is_no_warning() -> None:
    """The defaults give no cause for a warning."""
    assert load_config({}).warnings == ()


def test_defaults_are_those_of_the_compatibility_sheet() -> None:
    """What Kepler's users rely on has Kepler's default, but for the interval."""
    config = Config()
    assert (config.interval_s, config.staleness_s) == (1.0, 0.5)
    assert (config.max_terminated, config.min_terminated_energy_j) == (500, 10.0)
    assert (config.sysfs, config.procfs) == ("/sys", "/proc")
    assert config.listen_addresses == (":28282",)
    assert config.metrics_levels == {"node", "process", "container", "vm", "pod"}
    assert (config.kube_mode, config.kube_poll_interval_s) == ("kubelet", 15.0)


def test_every_field_has_its_own_key() -> None:
    """The table has one option for each field, and no YAML key twice."""
    assert [option.field for option in OPTIONS] == [
        field.name for field in dataclasses.fields(Config)
    ]
    assert len({option.key for option in OPTIONS}) == len(OPTIONS)


def test_no_flag_is_used_twice() -> None:
    """A flag belongs to one setting, ours or foreign."""
    flags = [flag for option in OPTIONS for flag in option.flags]
    flags += [flag for foreign in UNSUPPORTED for flag in foreign.keys.values() if flag]
    assert len(set(flags)) == len(flags)


def test_config_is_frozen() -> None:
    """Nobody changes the settings of a run."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().interval_s = 2.0  # type: ignore[misc]


# --- durations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10ms", 0.01),
        ("100ms", 0.1),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("0.5h", 1800.0),
        ("10000us", 0.01),
        ("10000µs", 0.01),
        ("10000000ns", 0.01),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    """Every form of a duration gives its exact number of seconds."""
    assert load(monitor__interval=text).interval_s == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0", "0s", "-1s", "9.999ms", "1h0.001s", "9" * 400 + "h",
        "1", "1.5", "s", "", " 1s", "1s ", "1 s", "1d", "1S", "one second", "nan", "inf",
        "1e3s", "1s2", ".5s", "٣s", "1ss",
    ],
)  # fmt: skip
def test_wrong_interval_is_refused(text: str) -> None:
    """Zero, negative, absurd or garbled: the error names flag, value and what is allowed."""
    with pytest.raises(ConfigError, match="10ms to 1h") as caught:
        load(monitor__interval=text)
    assert f"--monitor.interval: '{text[:20]}" in str(caught.value)


@given(st.integers(10, 3_600_000))
def test_milliseconds_and_seconds_agree(milliseconds: int) -> None:
    """The same duration in two units is the same number."""
    parse = values.duration_s("10ms", "1h")
    whole, rest = divmod(milliseconds, 1000)
    assert parse(f"{milliseconds}ms") == parse(f"{whole}s{rest}ms") == milliseconds / 1000


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No text makes the parser fail otherwise, or give what is out of bounds."""
    try:
        seconds = values.duration_s("10ms", "1h")(text)
    except ValueError:
        return
    assert 0.01 <= seconds <= 3600


def test_staleness_may_be_zero() -> None:
    """A staleness of 0 has each scrape count the time up to it."""
    assert load(monitor__staleness="0s").staleness_s == 0.0


# --- numbers, words and lists -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("monitor.maxTerminated", "0", "max_terminated", 0),
        ("monitor.maxTerminated", "-1", "max_terminated", -1),
        ("monitor.minTerminatedEnergyThreshold", "0.5", "min_terminated_energy_j", 0.5),
        ("ebpf.mapEntries", "0", "map_entries", 0),
        ("ebpf.mapEntries", "65536", "map_entries", 65536),
        ("ebpf.maxProcesses", "500", "max_processes", 500),
        ("ebpf.processTopN", "50", "process_top_n", 50),
        ("ebpf.processMinJoules", "0.5", "process_min_j", 0.5),
        ("ebpf.denyComm", ("kworker.*", "a|b"), "deny_comm", ("kworker.*", "a|b")),
        ("ebpf.maxWorkloads", "100000", "max_workloads", 100_000),
        ("log.level", "DEBUG", "log_level", "debug"),
        ("exporter.stdout.enabled", "true", "stdout_enabled", True),
        ("exporter.prometheus.enabled", "off", "prometheus_enabled", False),
        ("ebpf.cgroupHierarchy", "cpuacct", "cgroup_hierarchy", "cpuacct"),
        ("ebpf.meter", "estimate", "meter", "estimate"),
        ("exporter.prometheus.metricsLevel", ("pod", "node"), "metrics_levels", {"node", "pod"}),
        ("rapl.zones", ("Package", "dram"), "rapl_zones", ("package", "dram")),
        ("rapl.zones", ("dram", "dram"), "rapl_zones", ("dram",)),
        ("rapl.zones", ("Package-0", "psys-1"), "rapl_zones", ("package-0", "psys-1")),
        ("rapl.zones", ("package-0-die-1",), "rapl_zones", ("package-0-die-1",)),
        ("exporter.prometheus.metricsLevel", ("unit",), "metrics_levels", {"unit"}),
        ("web.listenAddresses", ("[::1]:0", ":80"), "listen_addresses", ("[::1]:0", ":80")),
        ("cpu.preferredMeters", ("perf", "rapl"), "preferred_meters", ("perf", "rapl")),
    ],
)
def test_value_is_read(key: str, text: str | tuple[str, ...], field: str, value: object) -> None:
    """A right value becomes the field's, in its type."""
    assert getattr(load(**{key: text}), field) == value


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("monitor.maxTerminated", "many", "a whole number"),
        ("monitor.maxTerminated", "1.5", "a whole number"),
        ("monitor.maxTerminated", "9" * 30, "a whole number"),
        ("monitor.minTerminatedEnergyThreshold", "-1", "joules, 0 or more"),
        ("monitor.minTerminatedEnergyThreshold", "nan", "joules, 0 or more"),
        ("monitor.minTerminatedEnergyThreshold", "10J", "without a unit"),
        ("ebpf.mapEntries", "1", "0 .automatic. or a whole number from 1024 to 4194304"),
        ("ebpf.maxProcesses", "99", "a whole number from 100 to 1000000"),
        ("ebpf.processTopN", "x", "0 .all. or a whole number from 1 to 1000000"),
        ("ebpf.allowComm", (r"(a)\1",), "a regular expression of RE2; this has a fault: invalid"),
        ("ebpf.maxWorkloads", "many", "a whole number from 100 to 100000"),
        ("log.level", "loud", "one of debug, info, warn, error"),
        ("log.format", "xml", "one of text, json"),
        ("exporter.stdout.enabled", "maybe", "true or false"),
        ("exporter.prometheus.metricsLevel", ("node", "rack"), "one of node, process"),
        ("rapl.zones", ("gpu",), "one of package, core, uncore, dram, psys, or a kernel's name"),
        ("rapl.zones", ("package-",), "such as package-0"),
        ("dev.fake-cpu-meter.zones", ("package-0",), "one of package, core, uncore, dram, psys"),
        ("web.listenAddresses", (), "at least one"),
        ("web.listenAddresses", ("28282",), "HOST:PORT"),
        ("web.listenAddresses", (":70000",), "HOST:PORT"),
        ("web.listenAddresses", (":http",), "HOST:PORT"),
        ("web.listenAddresses", ("::1:80",), "HOST:PORT"),
        ("web.listenAddresses", ("a b:80",), "HOST:PORT"),
        ("web.listenAddresses", ("a/b:80",), "HOST:PORT"),
        ("ebpf.meter", "msr", "one of auto, rapl, perf, estimate, fake"),
        ("ebpf.loader", "libbpf", "one of auto, core, bcc"),
        ("ebpf.cgroupHierarchy", "v3", "one of auto, v2, cpuacct, cpu, memory, pids"),
        ("ebpf.nodeName", "  ", "a name that is not blank"),
        ("kube.podInformer.mode", "push", "one of kubelet, apiserver"),
        ("ebpf.terminatedRetention", "0s", "1s to 24h"),
    ],
)
def test_wrong_value_is_refused(key: str, text: str | tuple[str, ...], allowed: str) -> None:
    """The error names the flag and what is allowed."""
    with pytest.raises(ConfigError, match=allowed) as caught:
        load(**{key: text})
    assert str(caught.value).startswith(f"--{key}: ")


def test_long_value_is_shown_shortened() -> None:
    """An error stays readable whatever was given."""
    with pytest.raises(ConfigError) as caught:
        load(log__level="x" * 10_000)
    assert len(str(caught.value)) < 200


# --- settings together ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["host.sysfs", "host.procfs"])
@pytest.mark.parametrize("path", ["/no/such/place", "/etc/hostname", "a\0b"])
def test_host_path_must_be_a_directory(key: str, path: str) -> None:
    """A wrong mount is refused at the start, not at the first read."""
    with pytest.raises(ConfigError, match=rf"--{key}: .* is not a directory"):
        load(**{key: path})


def test_kubernetes_needs_the_nodes_name() -> None:
    """Pods are asked for by node, so its name is needed when they are."""
    with pytest.raises(ConfigError, match="give it with --kube"):
        load(kube__enabled="true")


def test_node_name_is_the_hosts_first() -> None:
    """With nothing given the label is the host's own name."""
    assert Config().node_name == os.uname().nodename


def test_kubernetes_node_name_is_the_label() -> None:
    """The node's name in Kubernetes goes before the host's."""
    assert load(kube__nodeName="node-7").node_name == "node-7"


def test_own_node_name_wins() -> None:
    """A name given for the label goes before both."""
    assert load(kube__nodeName="node-7", ebpf__nodeName="rack1").node_name == "rack1"


@pytest.mark.parametrize(
    ("levels", "units", "exported"),
    [
        (("node",), "false", {"node"}),
        (("node",), "true", {"node", "unit"}),
        (("node", "unit"), "false", {"node", "unit"}),
    ],
)
def test_units_are_asked_for_in_two_ways(
    levels: tuple[str, ...], units: str, exported: set[str]
) -> None:
    """--units and the level unit mean the same."""
    config = load(exporter__prometheus__metricsLevel=levels, ebpf__units=units)
    assert config.levels == exported


@pytest.mark.parametrize(
    ("procfs", "root"), [("/proc", "/"), ("/proc/self/root/proc", "/proc/self/root/proc/1/root")]
)
def test_hosts_root_is_seen_through_its_procfs(procfs: str, root: str) -> None:
    """With another procfs than ours the host's files are those of its PID 1."""
    assert load(host__procfs=procfs).host_root == root


def test_all_exporters_off_is_a_warning() -> None:
    """Nobody would see a figure, which is most likely not meant."""
    assert "nothing will be exported" in warnings_of("exporter.prometheus.enabled", "false")[0]


# --- Kubernetes


def test_kubelet_is_at_the_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the downward API gives the address in NODE_IP; a setting goes before it."""
    monkeypatch.setenv("NODE_IP", "10.0.0.7")
    assert load().kubelet_host == "10.0.0.7"
    assert load(ebpf__kubelet__host="node-7:10251").kubelet_host == "node-7:10251"


def test_unverified_kubelet_is_a_warning() -> None:
    """The warning has what follows, and appears only where the kubelet is used."""
    given = {"kube.enabled": "true", "kube.nodeName": "n", "ebpf.kubelet.verify": "false"}
    settings = {key: Setting(value, key) for key, value in given.items()}
    assert "not verified" in load_config(settings).warnings[0]
    settings["kube.podInformer.mode"] = Setting("apiserver", "x")
    assert load_config(settings).warnings == ()


@pytest.mark.parametrize("label", ["", "*", "a b", "-a", "a/b/c", "A.io/b", "a" * 64, "é"])
def test_label_that_no_pod_can_have_is_refused(label: str) -> None:
    """A pattern or a misspelled key would silently show nothing."""
    with pytest.raises(ConfigError, match="want the key of a Kubernetes label"):
        load(ebpf__podLabels=(label,))


def test_labels_that_would_be_one_are_refused() -> None:
    """Prometheus could not tell them apart, and one series must not have a label twice."""
    with pytest.raises(ConfigError, match=r"a\.io/b and a-io\.b would both be label_a_io_b"):
        load(ebpf__podLabels=("a.io/b", "a-io.b"))


# --- what Kepler has and we do not ------------------------------------------------------------


def test_foreign_meter_is_passed_over_with_a_warning() -> None:
    """Kepler's own default list, rapl and hwmon, keeps what we have."""
    loaded = load_config({"cpu.preferredMeters": Setting(("rapl", "hwmon"), "--x")})
    assert loaded.config.preferred_meters == ("rapl",)
    assert "no hwmon meter" in loaded.warnings[0]


@pytest.mark.parametrize(
    "key",
    ["debug.pprof.enabled", "experimental.platform.redfish.enabled", "experimental.gpu.enabled"],
)
def test_foreign_feature_is_a_warning_when_on(key: str) -> None:
    """A feature we lack is named once when it is asked for."""
    (warning,) = warnings_of(key, "true")
    assert "has no effect" in warning


def test_foreign_feature_is_silent_when_off() -> None:
    """A feature that is off is not missed."""
    assert warnings_of("debug.pprof.enabled", "false") == ()


def test_foreign_detail_is_silent_without_its_switch() -> None:
    """The details of a feature that is not switched on are of no interest."""
    assert warnings_of("experimental.platform.redfish.nodeName", "n1") == ()


@pytest.mark.parametrize("address", [":28282", "0.0.0.0:1", "[::]:1", "192.0.2.1:1", "node:1"])
def test_fine_figures_are_not_served_to_other_hosts(address: str) -> None:
    """One address that others reach is enough; where nothing is served, nothing is refused."""
    addresses = ("127.0.0.1:1", address)
    with pytest.raises(ConfigError, match=r"ebpf.servedInterval is 0.5 s, and .* other hosts"):
        load(ebpf__servedInterval="500ms", web__listenAddresses=addresses)
    load(
        ebpf__servedInterval="500ms",
        web__listenAddresses=addresses,
        exporter__prometheus__enabled="false",
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/run/x"]
)
def test_fine_figures_are_served_on_the_loopback_interface(address: str) -> None:
    """Where the flag asks for them."""
    config = load(ebpf__servedInterval="0s", web__listenAddresses=(address,))
    assert config.served_interval_s == 0


def test_web_configuration_that_is_missing_is_refused() -> None:
    """Serving plainly where TLS or passwords were asked for would be unsafe."""
    with pytest.raises(
        ConfigError, match=r"cannot read the web configuration /etc/web.yaml: No such file"
    ):
        load(web__configFile="/etc/web.yaml")
