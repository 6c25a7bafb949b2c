"""What a user can set, as one frozen value.

``Config`` is the one table: each field states its default, parser, YAML key, flags and help. The
command line, the reader of configuration files and the documentation are derived from it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kepler_ebpf.config import values

T = TypeVar("T")
R = TypeVar("R", str, tuple[str, ...])

LEVELS = ("node", "process", "container", "vm", "pod")
METERS = ("rapl", "perf", "estimate", "fake")
V1_CONTROLLERS = ("cpuacct", "cpu", "memory", "pids")
"""v1 controllers to count by, in the order they are chosen; container runtimes use all alike."""

UNSUPPORTED_METERS = ("hwmon",)
"""Meters of Kepler that kepler-ebpf does not have: accepted in lists, with a warning."""

_OPTION = "option"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: how it is spelled on the command line and in YAML, and how it is parsed.

    ``default`` is the text (or texts, for a list) that a user would write. ``flags`` may be
    empty; the first one is the name used in messages. ``parse`` raises ValueError.
    """

    field: str
    key: str
    flags: tuple[str, ...]
    help: str
    default: str | tuple[str, ...]
    parse: Callable[[Any], object]

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return isinstance(self.default, tuple)

    @property
    def is_switch(self) -> bool:
        """Whether its flag may stand without a value."""
        return self.parse is values.boolean


@dataclass(frozen=True, slots=True)
class _Spelling:
    key: str
    flag: str | None = None
    alias: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(flag for flag in (self.flag, self.alias) if flag)


def _option(default: R, parse: Callable[[R], T], spelling: _Spelling, text: str) -> T:
    # Typed as the value, as dataclasses.field is: the field's type is then checked against it.
    meant = Option("", spelling.key, spelling.flags, text, default, parse)
    return field(default=parse(default), metadata={_OPTION: meant})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one run; ``Config()`` holds the defaults. Durations are in seconds."""

    interval_s: float = _option(
        "1s",
        values.duration_s("10ms", "1h"),
        _Spelling("monitor.interval", "--interval", "--monitor.interval"),
        "Time from one sample to the next, from 10ms to 1h.",
    )
    staleness_s: float = _option(
        "500ms",
        values.duration_s("0s", "1h"),
        _Spelling("monitor.staleness"),
        "A scrape that finds an older snapshot has a new sample taken.",
    )
    max_terminated: int = _option(
        "500",
        values.whole(),
        _Spelling("monitor.maxTerminated", "--monitor.max-terminated"),
        "Ended workloads listed of each kind; 0 lists none, a negative number all.",
    )
    min_terminated_energy_j: float = _option(
        "10",
        values.joules,
        _Spelling("monitor.minTerminatedEnergyThreshold"),
        "Joules that an ended process must have used to be listed; other workloads always are.",
    )
    terminated_retention_s: float = _option(
        "2m",
        values.duration_s("1s", "24h"),
        _Spelling("ebpf.terminatedRetention", "--terminated-retention"),
        "How long an ended workload stays listed, from 1s to 24h.",
    )
    sysfs: str = _option(
        "/sys", values.name, _Spelling("host.sysfs", "--host.sysfs"), "Where the host's sysfs is."
    )
    procfs: str = _option(
        "/proc",
        values.name,
        _Spelling("host.procfs", "--host.procfs"),
        "Where the host's procfs is.",
    )
    log_level: str = _option(
        "info",
        values.choice("debug", "info", "warn", "error"),
        _Spelling("log.level", "--log.level"),
        "Least severity that is logged: debug, info, warn or error.",
    )
    log_format: str = _option(
        "text",
        values.choice("text", "json"),
        _Spelling("log.format", "--log.format"),
        "Form of the log on stderr: text or json.",
    )
    metrics_levels: frozenset[str] = _option(
        LEVELS,
        values.set_of(values.choice(*LEVELS)),
        _Spelling("exporter.prometheus.metricsLevel", "--metrics"),
        "Levels to export: node, process, container, vm, pod.",
    )
    listen_addresses: tuple[str, ...] = _option(
        (":28282",),
        values.at_least_one(values.listen_address),
        _Spelling("web.listenAddresses", "--web.listen-address"),
        "Addresses to serve metrics on, as HOST:PORT.",
    )
    prometheus_enabled: bool = _option(
        "true",
        values.boolean,
        _Spelling("exporter.prometheus.enabled", "--exporter.prometheus"),
        "Serve metrics to Prometheus.",
    )
    debug_collectors: tuple[str, ...] = _option(
        ("go",),
        values.each(values.choice("go", "process")),
        _Spelling("exporter.prometheus.debugCollectors"),
        "Metrics of the program's own runtime: go (here Python's), process.",
    )
    stdout_enabled: bool = _option(
        "false",
        values.boolean,
        _Spelling("exporter.stdout.enabled", "--exporter.stdout"),
        "Print each interval to standard output.",
    )
    stdout_format: str = _option(
        "table",
        values.choice("table", "jsonl"),
        _Spelling("ebpf.stdoutFormat", "--stdout-format"),
        "Form of what is printed: table, or jsonl for one JSON object each interval.",
    )
    rapl_zones: tuple[str, ...] = _option(
        (),
        values.each(values.choice(*values.ZONE_KINDS)),
        _Spelling("rapl.zones"),
        "Energy zones to read; none named means all.",
    )
    preferred_meters: tuple[str, ...] = _option(
        ("rapl", "perf"),
        values.each(values.choice(*METERS, *UNSUPPORTED_METERS)),
        _Spelling("cpu.preferredMeters"),
        "Meters that automatic choice tries, in this order.",
    )
    meter: str = _option(
        "auto",
        values.choice("auto", *METERS),
        _Spelling("ebpf.meter", "--meter"),
        "Source of energy readings: auto, rapl, perf, estimate or fake.",
    )
    fake_enabled: bool = _option(
        "false",
        values.boolean,
        _Spelling("dev.fake-cpu-meter.enabled"),
        "Use invented energy readings, for demonstrations.",
    )
    fake_zones: tuple[str, ...] = _option(
        ("package", "core", "dram"),
        values.each(values.choice(*values.ZONE_KINDS)),
        _Spelling("dev.fake-cpu-meter.zones"),
        "Zones of the invented readings.",
    )
    bpf_loader: str = _option(
        "auto",
        values.choice("auto", "core", "bcc"),
        _Spelling("ebpf.loader", "--bpf-loader"),
        "How BPF programs get into the kernel: core (compiled before), bcc (compiled at start).",
    )
    map_entries: int = _option(
        "0",
        values.zero_or(values.whole(1_024, 4_194_304)),
        _Spelling("ebpf.mapEntries", "--bpf-map-entries"),
        "Tasks the kernel maps can hold in one interval; 0 chooses by the host's size.",
    )
    cgroup_hierarchy: str = _option(
        "auto",
        values.choice("auto", "v2", *V1_CONTROLLERS),
        _Spelling("ebpf.cgroupHierarchy", "--cgroup-hierarchy"),
        "Where containers are looked for: auto, v2 or a v1 controller.",
    )
    bpf_stats: bool = _option(
        "false",
        values.boolean,
        _Spelling("ebpf.stats", "--bpf-stats"),
        "Have the kernel measure the cost of BPF programs, which itself costs some.",
    )
    kube_enabled: bool = _option(
        "false",
        values.boolean,
        _Spelling("kube.enabled", "--kube.enable"),
        "Name the pods of this Kubernetes node.",
    )
    kube_config: str = _option(
        "",
        values.anything,
        _Spelling("kube.config", "--kube.config"),
        "A kubeconfig, needed outside of the cluster only.",
    )
    kube_node_name: str = _option(
        "",
        values.anything,
        _Spelling("kube.nodeName", "--kube.node-name"),
        "This node's name in Kubernetes.",
    )
    kube_mode: str = _option(
        "kubelet",
        values.choice("kubelet", "apiserver"),
        _Spelling("kube.podInformer.mode"),
        "Where pods are asked for: kubelet or apiserver.",
    )
    kube_poll_interval_s: float = _option(
        "15s",
        values.duration_s("1s", "1h"),
        _Spelling("kube.podInformer.pollInterval"),
        "Time between two questions to the kubelet.",
    )
    kubelet_host: str = _option(
        "",
        values.anything,
        _Spelling("ebpf.kubelet.host"),
        "Address of the kubelet, as HOST or HOST:PORT; without it NODE_IP, else the node's name.",
    )
    kubelet_ca: str = _option(
        "",
        values.anything,
        _Spelling("ebpf.kubelet.ca"),
        "File with the CA that signed the kubelet's certificate; without it the cluster's.",
    )
    kubelet_verify: bool = _option(
        "true",
        values.boolean,
        _Spelling("ebpf.kubelet.verify"),
        "Verify the kubelet's certificate.",
    )
    pod_labels: tuple[str, ...] = _option(
        (),
        values.each(values.pod_label),
        _Spelling("ebpf.podLabels"),
        "Labels of pods that kepler_ebpf_pod_info shows; none named means none.",
    )
    units: bool = _option(
        "false",
        values.boolean,
        _Spelling("ebpf.units", "--units"),
        "Export systemd units and Slurm steps as well.",
    )
    node_name: str = _option(
        os.uname().nodename,
        values.name,
        _Spelling("ebpf.nodeName", "--node-name"),
        "Value of the node_name label; without it Kubernetes' name, else the host's.",
    )


OPTIONS: tuple[Option, ...] = tuple(
    dataclasses.replace(item.metadata[_OPTION], field=item.name)
    for item in dataclasses.fields(Config)
)
"""Every setting, in the order of Config's fields."""
