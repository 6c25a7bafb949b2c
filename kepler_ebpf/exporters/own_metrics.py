"""The metrics about ourselves: of the run's ``Stats``, of sources and settings, of a page's age.

A new one is one entry.
"""

from __future__ import annotations

from kepler_ebpf.exporters.metric import SampledMetric, figure
from kepler_ebpf.exporters.web_config import WebReload
from kepler_ebpf.model.energy import NS_PER_S
from kepler_ebpf.model.pods import PodSourceHealth
from kepler_ebpf.model.stats import Stats

OWN_METRICS: tuple[SampledMetric[Stats], ...] = (
    SampledMetric(
        "kepler_ebpf_info",
        "Always 1; the BPF loader and the energy meter in use.",
        ("loader", "meter", "estimate"),
        read=lambda stats: [
            ((stats.loader, stats.meter.name, str(stats.meter.is_estimate).lower()), 1.0)
        ],
    ),
    figure(
        "kepler_ebpf_meter_estimate",
        "1 if the energy is modelled, 0 if it is measured.",
        lambda stats: float(stats.meter.is_estimate),
    ),
    SampledMetric(
        "kepler_ebpf_meter_errors_total",
        "Faults of a meter's zone, by reason: read, jump, stuck or gap.",
        ("path", "reason"),
        read=lambda stats: stats.meter.errors.items(),
    ),
    figure(
        "kepler_ebpf_residual_ratio",
        "Energy of the last intervals that attribution lost or added, relative to the energy read.",
        lambda stats: stats.loop.residual_ratio,
    ),
    figure(
        "kepler_ebpf_accounting_error_ratio",
        "Difference of the counted CPU time of the last intervals from the elapsed CPU time, "
        "relative to the elapsed.",
        lambda stats: stats.loop.accounting_ratio,
    ),
    figure(
        "kepler_ebpf_lost_cpu_seconds_total",
        "CPU time without an owner, because a kernel map was full or tasks were hidden from "
        "tracing, in seconds.",
        lambda stats: stats.tracker.lost_ns / NS_PER_S,
    ),
    figure(
        "kepler_ebpf_hidden_cpu_seconds_total",
        "Part of the lost CPU time that tasks hidden from tracing used, in seconds.",
        lambda stats: stats.tracker.hidden_ns / NS_PER_S,
    ),
    figure(
        "kepler_ebpf_overflow_cpu_seconds_total",
        "CPU time known by cgroup only, because the task map was full, in seconds.",
        lambda stats: stats.tracker.overflow_ns / NS_PER_S,
    ),
    figure(
        "kepler_ebpf_lost_cgroup_events_total",
        "Cgroup create and remove events dropped because the event map was full.",
        lambda stats: stats.tracker.cgroup_events_lost,
    ),
    figure(
        "kepler_ebpf_lost_exec_events_total",
        "Exec events dropped because the event buffer was full.",
        lambda stats: stats.tracker.exec_events_lost,
    ),
    figure(
        "kepler_ebpf_lost_process_ends_total",
        "Ends of processes dropped because the task map and the buffer of ends were full; these "
        "processes are looked for in procfs.",
        lambda stats: stats.tracker.process_ends_lost,
    ),
    figure(
        "kepler_ebpf_own_cpu_seconds_total",
        "CPU time that kepler-ebpf itself used, in seconds.",
        lambda stats: stats.own.cpu_ns / NS_PER_S,
    ),
    figure(
        "kepler_ebpf_map_fill_ratio",
        "Used share of the kernel's task map, from 0 to 1.",
        lambda stats: stats.tracker.map_fill_ratio,
    ),
    figure(
        "kepler_ebpf_interval_lateness_seconds",
        "Delay of the end of the last interval, in seconds.",
        lambda stats: stats.loop.lateness_s,
    ),
    figure(
        "kepler_ebpf_drain_seconds",
        "Time to close the last interval and to read its CPU time, in seconds.",
        lambda stats: stats.tracker.close_s,
    ),
    figure(
        "kepler_ebpf_work_seconds",
        "Time to measure the last interval and to account for its batch, in seconds.",
        lambda stats: stats.loop.work_s,
    ),
    figure(
        "kepler_ebpf_intervals_total",
        "Intervals measured since start.",
        lambda stats: stats.loop.intervals,
    ),
    figure(
        "kepler_ebpf_failed_intervals_total",
        "Intervals that failed; the next interval includes their usage.",
        lambda stats: stats.loop.failed_intervals,
    ),
    figure(
        "kepler_ebpf_missed_ticks_total",
        "Ticks that passed while the loop was busy.",
        lambda stats: stats.loop.missed_ticks,
    ),
    figure(
        "kepler_ebpf_naming_faults_total",
        "Faults while names were looked up; each cost names, and no energy.",
        lambda stats: stats.naming.faults,
    ),
    figure(
        "kepler_ebpf_given_up_reads_total",
        "Reads of a process's command line or a container runtime's file that did not return "
        "within a second.",
        lambda stats: stats.naming.given_up_reads,
    ),
    figure(
        "kepler_ebpf_stdout_dropped_total",
        "Intervals that --exporter.stdout skipped because its reader was too slow.",
        lambda stats: stats.exports.stdout_dropped,
    ),
    SampledMetric(
        "kepler_ebpf_otlp_exports_total",
        "Pushes to a collector, by result: sent, rejected (at least in part) or failed.",
        ("result",),
        read=lambda stats: [((result,), n) for result, n in stats.exports.pushes.items()],
    ),
    SampledMetric(
        "kepler_ebpf_limited_total",
        "How often a limit on what others choose held something back; a workload that is not "
        "listed counts once for each time that the level was full for it.",
        ("limit",),
        read=lambda stats: [((limit,), count) for limit, count in stats.limits.items()],
    ),
    figure(
        "kepler_ebpf_bpf_run_seconds_total",
        "Run time of our BPF programs, in seconds; only where the kernel keeps BPF statistics.",
        lambda stats: stats.programs.run_ns / NS_PER_S if stats.programs.run_count else None,
    ),
    figure(
        "kepler_ebpf_bpf_runs_total",
        "Runs of our BPF programs; only where the kernel keeps BPF statistics.",
        lambda stats: stats.programs.run_count or None,
    ),
    figure(
        "kepler_ebpf_bpf_missed_runs_total",
        "Runs of our BPF programs that the kernel skipped.",
        lambda stats: stats.programs.missed_count,
    ),
)

POD_SOURCE: tuple[SampledMetric[PodSourceHealth], ...] = (
    figure(
        "kepler_ebpf_pod_source_up",
        "1 if the source of pods runs and its last request succeeded; absent without Kubernetes.",
        lambda source: float(source.up),
    ),
    figure(
        "kepler_ebpf_pod_source_last_sync_timestamp_seconds",
        "Unix time of the last answer that the source of pods received.",
        lambda source: source.last_sync_s,
    ),
    SampledMetric(
        "kepler_ebpf_pod_source_errors_total",
        "Failed requests of the source of pods, by reason.",
        ("reason",),
        read=lambda source: [((reason,), count) for reason, count in source.errors.items()],
    ),
)

AGE: tuple[SampledMetric[float], ...] = (
    figure(
        "kepler_ebpf_snapshot_age_seconds",
        "Age of the figures on this page, in seconds.",
        lambda age_s: age_s,
    ),
)

WEB: tuple[SampledMetric[WebReload], ...] = (
    figure(
        "kepler_ebpf_web_config_last_reload_successful",
        "1 if the web configuration could be read the last time, 0 if the one before is in use; "
        "absent without one.",
        lambda reload: float(reload.successful),
    ),
    figure(
        "kepler_ebpf_web_config_last_reload_success_timestamp_seconds",
        "Unix time at which the web configuration in use was read.",
        lambda reload: reload.success_at_s,
    ),
    figure(
        "kepler_ebpf_web_certificate_expiry_timestamp_seconds",
        "Unix time at which the certificate in use expires; absent without TLS.",
        lambda reload: reload.certificate_end_s,
    ),
)
