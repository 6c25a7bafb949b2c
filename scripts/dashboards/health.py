"""The quality of the figures, and the cost of measuring."""

from .choices import AT, NODE, ON, ZONE, rate
from .grafana import Query, dashboard, graph, stat, table

ONLY_WITH_KUBERNETES = "Only where Kubernetes is on (--kube.enable)."

PANELS = [
    stat("Answering", 'sum(up{job="kepler-ebpf"})', "none"),
    stat("Silent", 'count(up{job="kepler-ebpf"} == 0) or vector(0)', "none"),
    stat("Oldest figures", f"max(kepler_ebpf_snapshot_age_seconds{{{ON}}})", "s"),
    stat("Worst residual", f"max(abs(kepler_ebpf_residual_ratio{{{ON}}}))", "percentunit"),
    stat("Own CPU", f"sum(rate(kepler_ebpf_own_cpu_seconds_total{{{ON}}}[5m]))", "percentunit"),
    stat(
        "Own power", f"sum(rate(kepler_ebpf_own_joules_total{{{AT}}}[5m]))", "watt", "Of all nodes."
    ),
    graph(
        "Time of an interval",
        "s",
        Query(f"kepler_ebpf_work_seconds{{{ON}}}", "{{node_name}} work"),
        Query(f"kepler_ebpf_drain_seconds{{{ON}}}", "{{node_name}} drain"),
        Query(f"kepler_ebpf_interval_lateness_seconds{{{ON}}}", "{{node_name}} late"),
    ),
    graph(
        "Intervals",
        "ops",
        Query(rate(f"kepler_ebpf_intervals_total{{{ON}}}", "node_name"), "{{node_name}}"),
        Query(
            rate(f"kepler_ebpf_failed_intervals_total{{{ON}}}", "node_name"),
            "{{node_name}} failed",
        ),
        Query(rate(f"kepler_ebpf_missed_ticks_total{{{ON}}}", "node_name"), "{{node_name}} missed"),
        Query(
            rate(f"kepler_ebpf_stdout_dropped_total{{{ON}}}", "node_name"),
            "{{node_name}} not printed",
        ),
        Query(
            rate(f'kepler_ebpf_otlp_exports_total{{result!="sent",{ON}}}', "node_name"),
            "{{node_name}} not pushed",
        ),
    ),
    graph(
        "Length of an interval",
        "s",
        Query(f"kepler_ebpf_interval_duration_seconds{{{ON}}}", "{{node_name}}"),
    ),
    graph(
        "CPU time that does not add up",
        "percentunit",
        Query(f"abs(kepler_ebpf_accounting_error_ratio{{{ON}}})", "{{node_name}}"),
    ),
    graph(
        "Lost and overflow CPU time",
        "percentunit",
        Query(
            rate(f"kepler_ebpf_lost_cpu_seconds_total{{{ON}}}", "node_name"), "{{node_name}} lost"
        ),
        Query(
            rate(f"kepler_ebpf_hidden_cpu_seconds_total{{{ON}}}", "node_name"),
            "{{node_name}} hidden",
        ),
        Query(
            rate(f"kepler_ebpf_overflow_cpu_seconds_total{{{ON}}}", "node_name"),
            "{{node_name}} overflow",
        ),
        about="In cores. Lost: without an owner; hidden is the part of it that tasks hidden from "
        "tracing used. Overflow: known by cgroup only.",
    ),
    graph(
        "Lost kernel events",
        "ops",
        Query(
            rate(f"kepler_ebpf_lost_cgroup_events_total{{{ON}}}", "node_name"),
            "{{node_name}} cgroup",
        ),
        Query(
            rate(f"kepler_ebpf_lost_exec_events_total{{{ON}}}", "node_name"), "{{node_name}} exec"
        ),
        Query(
            rate(f"kepler_ebpf_lost_process_ends_total{{{ON}}}", "node_name"), "{{node_name}} end"
        ),
        about="Events dropped because a kernel buffer was full: names may be missing, and ended "
        "processes be listed as running for a while.",
    ),
    graph(
        "Names that failed",
        "ops",
        Query(rate(f"kepler_ebpf_naming_faults_total{{{ON}}}", "node_name"), "{{node_name}} fault"),
        Query(
            rate(f"kepler_ebpf_given_up_reads_total{{{ON}}}", "node_name"),
            "{{node_name}} given up",
        ),
        about="Given up: a command line or a container runtime's file that could not be read "
        "within a second.",
    ),
    graph(
        "Limits reached",
        "ops",
        Query(
            rate(f"kepler_ebpf_limited_total{{{ON}}}", "node_name, limit"),
            "{{node_name}} {{limit}}",
        ),
        about="Workloads without a row of their own, labels cut, paths of cgroups forgotten, "
        "requests beyond the rate limit.",
    ),
    graph(
        "Fill of the kernel maps",
        "percentunit",
        Query(f"kepler_ebpf_map_fill_ratio{{{ON}}}", "{{node_name}}"),
    ),
    graph(
        "Faults of meters",
        "ops",
        Query(
            f"sum by (node_name, path, reason) (rate(kepler_ebpf_meter_errors_total{{{ON}}}"
            "[$__rate_interval])) or vector(0)",
            "{{node_name}} {{path}} {{reason}}",
        ),
    ),
    graph(
        "Source of pods answers",
        "none",
        Query(f"kepler_ebpf_pod_source_up{{{ON}}}", "{{node_name}}"),
        about=f"1 or 0. {ONLY_WITH_KUBERNETES}",
    ),
    graph(
        "Last answer from the source of pods",
        "s",
        Query(
            f"time() - kepler_ebpf_pod_source_last_sync_timestamp_seconds{{{ON}}}", "{{node_name}}"
        ),
        about=f"How long ago. {ONLY_WITH_KUBERNETES}",
    ),
    graph(
        "Failed requests to the source of pods",
        "ops",
        Query(
            f"sum by (node_name, reason) (rate(kepler_ebpf_pod_source_errors_total{{{ON}}}"
            "[$__rate_interval])) or vector(0)",
            "{{node_name}} {{reason}}",
        ),
        about=f"New pods get no name meanwhile. {ONLY_WITH_KUBERNETES}",
    ),
    graph(
        "Web configuration that is broken",
        "none",
        Query(
            f"1 - kepler_ebpf_web_config_last_reload_successful{{{ON}}} or vector(0)",
            "{{node_name}}",
        ),
        about="1 where TLS and passwords are those from before the last change of the file.",
    ),
    graph(
        "Age of the web configuration",
        "s",
        Query(
            "time() - kepler_ebpf_web_config_last_reload_success_timestamp_seconds"
            f"{{{ON}}} or on() vector(0)",
            "{{node_name}}",
        ),
        about="Since it was read. 0 without TLS and passwords.",
    ),
    graph(
        "Time to the certificate's end",
        "s",
        Query(
            f"kepler_ebpf_web_certificate_expiry_timestamp_seconds{{{ON}}} - time()"
            " or on() vector(0)",
            "{{node_name}}",
        ),
        about="Scrapers refuse an expired one. 0 without TLS.",
    ),
    graph(
        "Own CPU",
        "percentunit",
        Query(rate(f"kepler_ebpf_own_cpu_seconds_total{{{ON}}}", "node_name"), "{{node_name}}"),
        about="In cores, user space only.",
    ),
    graph(
        "Time of a BPF program run",
        "s",
        Query(
            f"({rate(f'kepler_ebpf_bpf_run_seconds_total{{{ON}}}', 'node_name')}"
            f" / {rate(f'kepler_ebpf_bpf_runs_total{{{ON}}}', 'node_name')}) or vector(0)",
            "{{node_name}}",
        ),
        about="Only where the kernel keeps BPF statistics (--bpf-stats); else 0.",
    ),
    graph(
        "Missed BPF program runs",
        "ops",
        Query(rate(f"kepler_ebpf_bpf_missed_runs_total{{{ON}}}", "node_name"), "{{node_name}}"),
    ),
    graph(
        "CPU time of retired workloads",
        "percentunit",
        Query(
            rate(f"kepler_ebpf_retired_cpu_seconds_total{{{ON}}}", "node_name, level"),
            "{{node_name}} {{level}}",
        ),
        about="In cores. Of workloads that are not listed.",
    ),
    table(
        "Loader and meter of each node",
        "none",
        Query(f"kepler_ebpf_info{{{ON}}}"),
        width=12,
    ),
    table(
        "Builds", "none", Query("count by (version, goversion, arch) (kepler_build_info)"), width=12
    ),
]

DASHBOARD = dashboard(
    "health", "Exporter health", "Quality and cost of the figures.", [ZONE, NODE], PANELS
)
