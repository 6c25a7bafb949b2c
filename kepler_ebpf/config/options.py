"""What a user can set, as one frozen value.

``Config`` is the one table: each field has its default, parser, YAML key, flags and help. The
command line, the reader of YAML files and the table in README.md are made from it. The words that
are allowed come from the registries of the other packages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from kepler_ebpf.config import values
from kepler_ebpf.config.option import option, patterns, switch, text, words_of
from kepler_ebpf.host.log import LEVELS as LOG_LEVELS
from kepler_ebpf.kernel.loaders import LOADERS
from kepler_ebpf.meters import AUTO, METER_NAMES, UNSUPPORTED_METERS
from kepler_ebpf.meters.zone_names import ZONE_KINDS
from kepler_ebpf.model.bounds import DEFAULT_MAX
from kepler_ebpf.model.levels import DEFAULT_LEVELS, LEVELS
from kepler_ebpf.names.cgroups.hierarchy import V1_CONTROLLERS

OWN_PROCFS = "/proc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one run; ``Config()`` holds the defaults. Durations are in seconds."""

    interval_s: float = option(
        "monitor.interval --interval --monitor.interval",
        "Length of an interval, from 10ms to 1h.",
        "1s",
        values.duration_s("10ms", "1h"),
    )
    staleness_s: float = option(
        "monitor.staleness",
        "A scrape that finds older figures has the time since then counted as well.",
        "500ms",
        values.duration_s("0s", "1h"),
    )
    max_terminated: int = option(
        "monitor.maxTerminated --monitor.max-terminated",
        "Number of ended workloads listed of each kind; 0 lists none, a negative number all.",
        "500",
        values.whole,
    )
    min_terminated_energy_j: float = option(
        "monitor.minTerminatedEnergyThreshold",
        "Joules that an ended process must have used to be listed; other workloads need none.",
        "10",
        values.joules,
    )
    terminated_retention_s: float = option(
        "ebpf.terminatedRetention --terminated-retention",
        "Time that an ended workload stays listed, from 1s to 24h.",
        "2m",
        values.duration_s("1s", "24h"),
    )
    sysfs: str = option(
        "host.sysfs --host.sysfs", "Directory of the host's sysfs.", "/sys", values.name
    )
    procfs: str = option(
        "host.procfs --host.procfs", "Directory of the host's procfs.", OWN_PROCFS, values.name
    )
    log_level: str = option(
        "log.level --log.level",
        f"Lowest severity that is logged: {words_of(LOG_LEVELS)}.",
        "info",
        values.choice(*LOG_LEVELS),
    )
    log_format: str = option(
        "log.format --log.format",
        "Form of the log on stderr: text or json.",
        "text",
        values.choice("text", "json"),
    )
    metrics_levels: frozenset[str] = option(
        "exporter.prometheus.metricsLevel --metrics",
        f"Levels to export: {words_of(LEVELS, 'and')}.",
        DEFAULT_LEVELS,
        values.set_of(values.choice(*LEVELS)),
    )
    listen_addresses: tuple[str, ...] = option(
        "web.listenAddresses --web.listen-address",
        "Addresses to serve metrics on, as HOST:PORT, :PORT or unix:/PATH.",
        (":28282",),
        values.each(values.listen_address, may_be_empty=False),
    )
    served_interval_s: float = option(
        "ebpf.servedInterval --served-interval",
        "Shortest time that served figures are of, to 1h; below 1s for loopback and unix sockets.",
        "1s",
        values.duration_s("0s", "1h"),
    )
    systemd_socket: bool = switch(
        "web.systemdSocket --web.systemd-socket",
        "Serve metrics on the sockets that systemd passes, instead of web.listenAddresses.",
    )
    allowed_hosts: tuple[str, ...] = option(
        "ebpf.allowedHosts --allowed-host",
        "Names in URLs that a server on loopback addresses takes, beside localhost; * for any.",
        (),
        values.each(values.host),
    )
    web_config_file: str = text(
        "web.configFile --web.config-file",
        "File in the format of Prometheus's exporter toolkit: TLS, users, headers, rate limit.",
    )
    prometheus_enabled: bool = switch(
        "exporter.prometheus.enabled --exporter.prometheus",
        "Serve metrics to Prometheus.",
        default="true",
    )
    debug_collectors: tuple[str, ...] = option(
        "exporter.prometheus.debugCollectors",
        "Metrics of the program's own runtime: go (here Python's) and process.",
        ("go",),
        values.each(values.choice("go", "process")),
    )
    stdout_enabled: bool = switch(
        "exporter.stdout.enabled --exporter.stdout", "Print each interval to standard output."
    )
    otlp_enabled: bool = switch(
        "ebpf.otlp.enabled --exporter.otlp", "Push to an OpenTelemetry collector, over HTTP."
    )
    otlp_endpoint: str = text(
        "ebpf.otlp.endpoint --otlp-endpoint",
        "Address of the collector, as http://HOST:4318; by default OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    otlp_interval_s: float = option(
        "ebpf.otlp.interval --otlp-interval",
        "Time between two pushes, from 1s to 1h.",
        "1m",
        values.duration_s("1s", "1h"),
    )
    stdout_format: str = option(
        "ebpf.stdoutFormat --stdout-format",
        "Form of a printed interval: table, or jsonl for one JSON object on a line.",
        "table",
        values.choice("table", "jsonl"),
    )
    rapl_zones: tuple[str, ...] = option(
        "rapl.zones",
        f"Energy zones to read, by kind ({words_of(ZONE_KINDS)}) or by the kernel's name "
        "(such as package-0, package-0-die-1 or psys-1); an empty list means all.",
        (),
        values.each(values.zone_name),
    )
    preferred_meters: tuple[str, ...] = option(
        "cpu.preferredMeters",
        "Meters that the automatic choice tries first, in this order.",
        ("rapl", "perf"),
        values.each(values.choice(*METER_NAMES, *UNSUPPORTED_METERS)),
    )
    meter: str = option(
        "ebpf.meter --meter",
        f"Source of energy readings: {words_of([AUTO, *METER_NAMES])}.",
        AUTO,
        values.choice(AUTO, *METER_NAMES),
    )
    fake_enabled: bool = switch(
        "dev.fake-cpu-meter.enabled", "Use invented energy readings, for demonstrations."
    )
    fake_zones: tuple[str, ...] = option(
        "dev.fake-cpu-meter.zones",
        "Zones of the invented readings.",
        ("package", "core", "dram"),
        values.each(values.choice(*ZONE_KINDS)),
    )
    bpf_loader: str = option(
        "ebpf.loader --bpf-loader",
        "Loader of the BPF programs: auto, core (compiled before) or bcc (compiled at start).",
        "auto",
        values.choice("auto", *LOADERS),
    )
    map_entries: int = option(
        "ebpf.mapEntries --bpf-map-entries",
        "Number of tasks that the kernel maps hold in one interval; 0 chooses by the host's size.",
        "0",
        values.zero_or_within(1_024, 4_194_304),
    )
    cgroup_hierarchy: str = option(
        "ebpf.cgroupHierarchy --cgroup-hierarchy",
        f"Cgroup hierarchy of containers: auto, v2 or a v1 controller: {words_of(V1_CONTROLLERS)}.",
        "auto",
        values.choice("auto", "v2", *V1_CONTROLLERS),
    )
    bpf_stats: bool = switch(
        "ebpf.stats --bpf-stats",
        "Let the kernel measure the cost of the BPF programs; this adds to their cost.",
    )
    keep_privileges: bool = switch(
        "ebpf.keepPrivileges --keep-privileges",
        "Keep all rights; otherwise those that only the start needs are given up after it.",
    )
    jobs_socket: str = text(
        "ebpf.jobsSocket --jobs-socket",
        "Unix socket at which users without rights have their own commands and blocks measured.",
    )
    kube_enabled: bool = switch(
        "kube.enabled --kube.enable", "Name the pods of this Kubernetes node."
    )
    kube_config: str = text(
        "kube.config --kube.config", "Path of a kubeconfig, needed only outside of the cluster."
    )
    kube_node_name: str = text(
        "kube.nodeName --kube.node-name",
        "This node's name in Kubernetes; by default the environment's NODE_NAME.",
    )
    kube_mode: str = option(
        "kube.podInformer.mode",
        "Source of the node's pods: kubelet or apiserver.",
        "kubelet",
        values.choice("kubelet", "apiserver"),
    )
    kube_poll_interval_s: float = option(
        "kube.podInformer.pollInterval",
        "Time between two requests to the kubelet.",
        "15s",
        values.duration_s("1s", "1h"),
    )
    kubelet_host: str = text(
        "ebpf.kubelet.host",
        "Address of the kubelet, as HOST or HOST:PORT; by default NODE_IP, else the node's name.",
    )
    kubelet_ca: str = text(
        "ebpf.kubelet.ca",
        "File with the CA of the kubelet's certificate; by default the cluster's.",
    )
    kubelet_verify: bool = switch(
        "ebpf.kubelet.verify", "Verify the kubelet's certificate.", default="true"
    )
    pod_labels: tuple[str, ...] = option(
        "ebpf.podLabels",
        "Labels of pods that kepler_ebpf_pod_info has; an empty list means none.",
        (),
        values.each(values.pod_label),
    )
    units: bool = switch(
        "ebpf.units --units", "Export systemd units and Slurm steps too, as --metrics unit does."
    )
    max_processes: int = option(
        "ebpf.maxProcesses --max-processes",
        "Number of processes listed, running or ended; those beyond are in rows [others].",
        str(DEFAULT_MAX.processes),
        values.within(100, 1_000_000),
    )
    max_workloads: int = option(
        "ebpf.maxWorkloads --max-workloads",
        "Number of containers listed, and of pods, VMs and units; those beyond are in [others].",
        str(DEFAULT_MAX.others),
        values.within(100, 100_000),
    )
    process_top_n: int = option(
        "ebpf.processTopN --process-top-n",
        "Number of processes listed, those that used most in the last minutes; 0 lists all.",
        "0",
        values.zero_or_within(1, 1_000_000, "all"),
    )
    process_min_j: float = option(
        "ebpf.processMinJoules --process-min-joules",
        "Joules that a process must have used to be listed.",
        "0",
        values.joules,
    )
    allow_comm: tuple[str, ...] = patterns("allowComm", "Patterns (RE2) of processes to list.")
    deny_comm: tuple[str, ...] = patterns("denyComm", "Patterns of processes not to list.")
    allow_cgroup: tuple[str, ...] = patterns("allowCgroup", "Patterns of cgroups to list.")
    deny_cgroup: tuple[str, ...] = patterns("denyCgroup", "Patterns of cgroups not to list.")
    allow_namespace: tuple[str, ...] = patterns("allowNamespace", "Patterns of namespaces to list.")
    deny_namespace: tuple[str, ...] = patterns(
        "denyNamespace", "Patterns of namespaces not to list."
    )
    node_name: str = option(
        "ebpf.nodeName --node-name",
        "Value of the node_name label; by default the name in Kubernetes, else the host's.",
        os.uname().nodename,
        values.name,
    )

    @property
    def levels(self) -> frozenset[str]:
        """The levels to export: those of ``metrics_levels``, and units where ``units`` is set."""
        return self.metrics_levels | {"unit"} if self.units else self.metrics_levels

    @property
    def host_root(self) -> str:
        """The host's root directory: through PID 1 where ``procfs`` is another mount than ours."""
        return "/" if self.procfs == OWN_PROCFS else f"{self.procfs}/1/root"


OPTIONS = tuple(replace(item.metadata["option"], field=item.name) for item in fields(Config))
"""Every setting, in the order of Config's fields."""
