"""Every metric that kepler-ebpf exports: the one table the exporters and the documents follow.

Names, types and labels without the ``kepler_ebpf`` prefix are Kepler's own and never change here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WORKLOAD_LEVELS = ("process", "container", "vm", "pod", "unit")
LEVELS = ("node", *WORKLOAD_LEVELS)
ALWAYS = "always"
"""The level of what no choice of levels can leave out."""

PROCESS = ("pid", "comm", "exe", "type", "container_id", "vm_id")
CONTAINER = ("container_id", "container_name", "runtime", "pod_id")
VM = ("vm_id", "vm_name", "hypervisor")
POD = ("pod_id", "pod_name", "pod_namespace")
UNIT = ("unit", "kind")


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: the name of its samples and the labels beside the constant ``node_name``.

    ``level`` is one of LEVELS or ALWAYS; ``node_name`` is False where that label is left out.
    """

    name: str
    labels: tuple[str, ...]
    level: str
    help: str
    node_name: bool = True

    @property
    def type(self) -> Literal["counter", "gauge"]:
        """The type, which every name tells."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def family(self) -> str:
        """The name in OpenMetrics, where a counter's family has no ``_total``."""
        return self.name.removesuffix("_total")


NODE = (
    *(
        Metric(f"kepler_node_cpu_{suffix}", ("zone", "path"), "node", text)
        for suffix, text in (
            ("joules_total", "Energy of the zone since start, in joules."),
            ("active_joules_total", "Part of the zone's energy that work used, in joules."),
            ("idle_joules_total", "Part of the zone's energy that idling used, in joules."),
            ("watts", "Mean power of the zone over the last interval."),
            ("active_watts", "Mean power that work drew over the last interval."),
            ("idle_watts", "Mean power that idling drew over the last interval."),
        )
    ),
    Metric(
        "kepler_node_cpu_usage_ratio", (), "node", "Busy share of the CPU time that existed, 0..1."
    ),
)

WORKLOADS = (
    *(
        Metric(f"{prefix}_{level}_cpu_{suffix}", (*labels, "state", "zone"), level, text)
        for prefix, level, labels in (
            ("kepler", "process", PROCESS),
            ("kepler", "container", CONTAINER),
            ("kepler", "vm", VM),
            ("kepler", "pod", POD),
            ("kepler_ebpf", "unit", UNIT),
        )
        for suffix, text in (
            ("joules_total", f"Active energy given to the {level} since start, in joules."),
            ("watts", f"Mean power of the {level} over the last interval; 0 if it slept."),
        )
    ),
    Metric(
        "kepler_process_cpu_seconds_total",
        PROCESS,
        "process",
        "CPU time of the process since it was first seen.",
    ),
    Metric(
        "kepler_container_cpu_seconds_total",
        (*CONTAINER, "state"),
        "container",
        "CPU time of the container since it was first seen.",
    ),
    Metric(
        "kepler_ebpf_unit_cpu_seconds_total",
        (*UNIT, "state"),
        "unit",
        "CPU time of the unit since it was first seen.",
    ),
)

POD_INFO = Metric(
    "kepler_ebpf_pod_info",
    (*POD, "cgroup_pod_id", "node", "owner_kind", "owner_name", "qos_class"),
    "pod",
    "One series with the value 1 for each pod, to join on; with the labels of ebpf.podLabels.",
)

KUBERNETES = (
    POD_INFO,
    Metric(
        "kepler_ebpf_pod_source_up",
        (),
        ALWAYS,
        "1 while the source of pods runs and is answered; only where Kubernetes is on.",
    ),
    Metric(
        "kepler_ebpf_pod_source_last_sync_timestamp_seconds",
        (),
        ALWAYS,
        "When the source of pods last heard from its server, as a Unix time.",
    ),
    Metric(
        "kepler_ebpf_pod_source_errors_total",
        ("reason",),
        ALWAYS,
        "Failed requests of the source of pods, by reason.",
    ),
)

INFO = (
    Metric(
        "kepler_node_cpu_info",
        ("processor", "vendor_id", "model_name", "physical_id", "core_id"),
        ALWAYS,
        "One series with the value 1 for each logical CPU.",
        node_name=False,
    ),
    Metric(
        "kepler_build_info",
        ("arch", "branch", "revision", "version", "goversion"),
        ALWAYS,
        "The running build; goversion holds the Python version.",
        node_name=False,
    ),
    Metric(
        "kepler_ebpf_info",
        ("loader", "meter", "estimate"),
        ALWAYS,
        "How this run gets its CPU time and its energy.",
    ),
    Metric(
        "kepler_ebpf_meter_estimate", (), ALWAYS, "1 where the energy is modelled, not measured."
    ),
)

LEDGER = (
    Metric(
        "kepler_ebpf_zone_joules_total",
        ("zone", "socket", "path", "split"),
        "node",
        "Energy of one zone of one socket by split (active or idle), in joules.",
    ),
    Metric(
        "kepler_ebpf_unattributed_joules_total",
        ("zone", "socket", "path"),
        "node",
        "Active energy of the zone that no task could be given, in joules.",
    ),
    Metric(
        "kepler_ebpf_retired_joules_total",
        ("level", "zone"),
        ALWAYS,
        "Energy of ended workloads that are no longer listed one by one, in joules.",
    ),
    Metric(
        "kepler_ebpf_retired_cpu_seconds_total",
        ("level",),
        ALWAYS,
        "CPU time of ended workloads that are no longer listed one by one.",
    ),
    Metric(
        "kepler_ebpf_residual_ratio",
        (),
        ALWAYS,
        "Energy of the last interval that the ledger cannot place, relative to what was read.",
    ),
    Metric(
        "kepler_ebpf_accounting_error_ratio",
        (),
        ALWAYS,
        "Gap between task, idle and lost time and the CPU time of the last interval.",
    ),
    Metric(
        "kepler_ebpf_lost_cpu_seconds_total",
        (),
        ALWAYS,
        "CPU time that nobody could be charged for: the kernel maps were full, or it was unseen.",
    ),
    Metric(
        "kepler_ebpf_hidden_cpu_seconds_total",
        (),
        ALWAYS,
        "Part of the lost CPU time: of tasks that the kernel hides from tracing.",
    ),
    Metric(
        "kepler_ebpf_overflow_cpu_seconds_total",
        (),
        ALWAYS,
        "CPU time known by cgroup only, because the task map was full.",
    ),
    Metric(
        "kepler_ebpf_lost_cgroup_events_total",
        (),
        ALWAYS,
        "Cgroups made or removed that the full event map could not tell of.",
    ),
    Metric(
        "kepler_ebpf_own_cpu_seconds_total", (), ALWAYS, "CPU time that kepler-ebpf itself used."
    ),
    Metric(
        "kepler_ebpf_own_joules_total",
        ("zone",),
        ALWAYS,
        "Active energy that kepler-ebpf itself was given, in joules.",
    ),
)

SAMPLER = (
    Metric("kepler_ebpf_map_fill_ratio", (), ALWAYS, "Used share of the kernel's task map, 0..1."),
    Metric(
        "kepler_ebpf_interval_duration_seconds", (), ALWAYS, "Measured length of the last interval."
    ),
    Metric(
        "kepler_ebpf_interval_lateness_seconds", (), ALWAYS, "Delay of the last tick on its grid."
    ),
    Metric("kepler_ebpf_drain_seconds", (), ALWAYS, "Time to close the last interval and read it."),
    Metric(
        "kepler_ebpf_work_seconds",
        (),
        ALWAYS,
        "Time spent on the last interval in all, with those accounted for together.",
    ),
    Metric("kepler_ebpf_intervals_total", (), ALWAYS, "Intervals measured since start."),
    Metric(
        "kepler_ebpf_failed_intervals_total",
        (),
        ALWAYS,
        "Intervals that failed; the next one carries their usage.",
    ),
    Metric("kepler_ebpf_missed_ticks_total", (), ALWAYS, "Ticks that passed while one was busy."),
    Metric(
        "kepler_ebpf_stdout_dropped_total",
        (),
        ALWAYS,
        "Intervals that --exporter.stdout left out, its reader being behind.",
    ),
    Metric("kepler_ebpf_snapshot_age_seconds", (), ALWAYS, "Age of the figures on this page."),
    Metric(
        "kepler_ebpf_meter_errors_total",
        ("path", "reason"),
        ALWAYS,
        "Faults of a meter's zone by reason: read, jump, stuck or gap.",
    ),
    Metric(
        "kepler_ebpf_bpf_run_seconds_total",
        (),
        ALWAYS,
        "Time in our BPF programs; only where the kernel keeps BPF statistics.",
    ),
    Metric(
        "kepler_ebpf_bpf_runs_total",
        (),
        ALWAYS,
        "Runs of our BPF programs; only where the kernel keeps BPF statistics.",
    ),
    Metric(
        "kepler_ebpf_bpf_missed_runs_total",
        (),
        ALWAYS,
        "Runs of our BPF programs that were missed.",
    ),
)

METRICS = (*NODE, *WORKLOADS, *INFO, *KUBERNETES, *LEDGER, *SAMPLER)
"""All of them, in the order in which the documents list them."""


AS_TEXT = (*WORKLOADS, POD_INFO)
"""Those whose size follows the workloads; see ``exposition``."""


def selected(metrics: tuple[Metric, ...], levels: frozenset[str]) -> tuple[Metric, ...]:
    """Keep what a run with these metric levels exports."""
    return tuple(metric for metric in metrics if metric.level in levels or metric.level == ALWAYS)
