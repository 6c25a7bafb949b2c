"""The Grafana dashboards: what each one asks of Prometheus.

Zones overlap, so every figure is of the one zone that is chosen above the dashboard. Sums over
pods and time come from deploy/prometheus/rules, which do not lose the pods that lived for seconds.
"""

from grafana import Panel, Query, Variable, dashboard, graph, row, stat, table

ZONE = Variable("zone", "label_values(kepler_node_cpu_watts, zone)", "Zone", default="package")
NODE = Variable("node", "label_values(kepler_node_cpu_watts, node_name)", "Node", many=True)
NAMESPACE = Variable(
    "namespace", "label_values(kepler_pod_cpu_watts, pod_namespace)", "Namespace", many=True
)
POD = Variable(
    "pod",
    'label_values(kepler_pod_cpu_watts{pod_namespace=~"$namespace"}, pod_name)',
    "Pod",
    many=True,
)
COMM = Variable(
    "comm",
    'label_values(kepler_process_cpu_joules_total{node_name=~"$node"}, comm)',
    "Command",
    many=True,
)

AT = 'zone="$zone", node_name=~"$node"'
IN = 'zone="$zone", pod_namespace=~"$namespace"'
ON = 'node_name=~"$node"'


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


CLUSTER = [
    stat("Power", 'sum(kepler_node_cpu_watts{zone="$zone"})', "watt"),
    stat("Active", 'sum(kepler_node_cpu_active_watts{zone="$zone"})', "watt"),
    stat("Idle", 'sum(kepler_node_cpu_idle_watts{zone="$zone"})', "watt"),
    stat(
        "Energy",
        'sum(increase(kepler_node_cpu_joules_total{zone="$zone"}[$__range]))',
        "joule",
        "Over the time range above.",
    ),
    stat("Nodes", 'count(kepler_node_cpu_watts{zone="$zone"})', "none"),
    stat(
        "Estimated nodes",
        "sum(kepler_ebpf_meter_estimate)",
        "none",
        "Nodes without a meter: their energy is modelled.",
    ),
    graph(
        "Power by node",
        "watt",
        Query('topk(20, sum by (node_name) (kepler_node_cpu_watts{zone="$zone"}))', "{{node_name}}"),
        stacked=True,
    ),
    graph(
        "Power by namespace",
        "watt",
        Query(
            'topk(20, sum by (pod_namespace) (namespace_zone:kepler_pod_cpu:watts5m{zone="$zone"}))',
            "{{pod_namespace}}",
        ),
        stacked=True,
    ),
    table(
        "Energy by namespace",
        "joule",
        Query(
            "sum by (pod_namespace)"
            ' (sum_over_time(namespace_zone:kepler_pod_cpu:watts5m{zone="$zone"}[$__range])) * 30'
        ),
        "Over the time range above, the pods that ended in it included.",
        width=12,
    ),
    table(
        "Power by workload",
        "watt",
        Query(
            "topk(50, sum by (pod_namespace, owner_kind, owner_name)"
            ' (workload_zone:kepler_pod_cpu:watts5m{zone="$zone"}))'
        ),
        "Needs kepler_ebpf_pod_info, so Kubernetes on.",
        width=12,
    ),
    row("Cost and carbon, where cost.yaml and factors.yaml are loaded"),
    stat("Cost per hour", 'zone:kepler_node_cpu:cost_per_hour{zone="$zone"}', "none"),
    stat("CO₂e per hour", 'zone:kepler_node_cpu:grams_co2e_per_hour{zone="$zone"}', "massg"),
    Panel(
        "Cost per hour by namespace",
        [
            Query(
                "sum by (pod_namespace)"
                ' (namespace_zone:kepler_pod_cpu:cost_per_hour{zone="$zone"})',
                "{{pod_namespace}}",
            )
        ],
        "none",
        width=16,
    ),
]

NODES = [
    stat("Power", f"sum(kepler_node_cpu_watts{{{AT}}})", "watt"),
    stat("Active", f"sum(kepler_node_cpu_active_watts{{{AT}}})", "watt"),
    stat("Idle", f"sum(kepler_node_cpu_idle_watts{{{AT}}})", "watt"),
    stat("CPU busy", f"avg(kepler_node_cpu_usage_ratio{{{ON}}})", "percentunit"),
    stat("CPUs", "count(kepler_node_cpu_info)", "none", "Of all nodes that are scraped."),
    stat("Meter age", f"max(kepler_ebpf_snapshot_age_seconds{{{ON}}})", "s"),
    graph(
        "Power by zone",
        "watt",
        Query(f"sum by (node_name, zone) (kepler_node_cpu_watts{{{ON}}})", "{{node_name}} {{zone}}"),
        about="Zones overlap: psys holds package, package holds core.",
    ),
    graph(
        "Active and idle power",
        "watt",
        Query(f"sum by (node_name) (kepler_node_cpu_active_watts{{{AT}}})", "{{node_name}} active"),
        Query(f"sum by (node_name) (kepler_node_cpu_idle_watts{{{AT}}})", "{{node_name}} idle"),
        stacked=True,
    ),
    graph(
        "Power by socket",
        "watt",
        Query(
            _rate(f"kepler_ebpf_zone_joules_total{{{AT}}}", "node_name, socket, split"),
            "{{node_name}} socket {{socket}} {{split}}",
        ),
        stacked=True,
    ),
    graph(
        "CPU busy",
        "percentunit",
        Query(f"kepler_node_cpu_usage_ratio{{{ON}}}", "{{node_name}}"),
    ),
    graph(
        "Containers with most power",
        "watt",
        Query(
            f"topk(15, sum by (node_name, container_id, container_name, runtime)"
            f" (kepler_container_cpu_watts{{{AT}}}))",
            "{{container_name}} {{container_id}}",
        ),
    ),
    graph(
        "Processes with most power",
        "watt",
        Query(
            f"topk(15, sum by (node_name, pid, comm) (kepler_process_cpu_watts{{{AT}}}))",
            "{{comm}} ({{pid}})",
        ),
    ),
    graph(
        "Virtual machines",
        "watt",
        Query(
            f"sum by (node_name, vm_id, vm_name, hypervisor) (kepler_vm_cpu_watts{{{AT}}})",
            "{{vm_name}} ({{hypervisor}})",
        ),
    ),
    graph(
        "Energy without an owner",
        "watt",
        Query(
            _rate(f"kepler_ebpf_unattributed_joules_total{{{AT}}}", "node_name, socket"),
            "{{node_name}} socket {{socket}}",
        ),
        about="Active energy of a socket on which no task ran, or whose CPU time was lost.",
    ),
]

PODS = [
    stat("Power", f"sum(kepler_pod_cpu_watts{{{IN}}})", "watt"),
    stat(
        "Energy",
        f"sum(sum_over_time(namespace_zone:kepler_pod_cpu:watts5m{{{IN}}}[$__range])) * 30",
        "joule",
        "Over the time range above, the pods that ended in it included.",
    ),
    stat("Pods", f'count(kepler_pod_cpu_watts{{{IN}, state="running"}})', "none"),
    graph(
        "Power by pod",
        "watt",
        Query(
            f"topk(20, sum by (pod_namespace, pod_name)"
            f' (kepler_pod_cpu_watts{{{IN}, pod_name=~"$pod"}}))',
            "{{pod_namespace}}/{{pod_name}}",
        ),
        stacked=True,
    ),
    graph(
        "Power by container",
        "watt",
        Query(
            'topk(20, sum by (pod_id, container_name) (kepler_container_cpu_watts{zone="$zone"})'
            " * on (pod_id) group_left (pod_namespace, pod_name)"
            f' group by (pod_id, pod_namespace, pod_name) (kepler_pod_cpu_watts{{{IN}, pod_name=~"$pod"}}))',
            "{{pod_name}}/{{container_name}}",
        ),
        stacked=True,
    ),
    graph(
        "CPU time by container",
        "percentunit",
        Query(
            "topk(20, sum by (pod_id, container_name)"
            " (rate(kepler_container_cpu_seconds_total[$__rate_interval]))"
            " * on (pod_id) group_left (pod_namespace, pod_name)"
            f' group by (pod_id, pod_namespace, pod_name) (kepler_pod_cpu_watts{{{IN}, pod_name=~"$pod"}}))',
            "{{pod_name}}/{{container_name}}",
        ),
        about="In cores.",
    ),
    graph(
        "Power by workload",
        "watt",
        Query(
            f"topk(20, sum by (pod_namespace, owner_kind, owner_name)"
            f" (workload_zone:kepler_pod_cpu:watts5m{{{IN}}}))",
            "{{owner_kind}} {{pod_namespace}}/{{owner_name}}",
        ),
        stacked=True,
    ),
    table(
        "Energy by pod",
        "joule",
        Query(
            f"topk(100, max by (node_name, pod_namespace, pod_name, state)"
            f' (kepler_pod_cpu_joules_total{{{IN}, pod_name=~"$pod"}}))'
        ),
        "Since kepler-ebpf started on the node.",
    ),
]

OF = 'zone="$zone", node_name=~"$node", comm=~"$comm"'

PROCESSES = [
    stat("Power", f"sum(kepler_process_cpu_watts{{{OF}}})", "watt"),
    stat("Processes", f'count(kepler_process_cpu_watts{{{OF}, state="running"}})', "none"),
    stat(
        "Joules per CPU second",
        f"sum(rate(kepler_process_cpu_joules_total{{{OF}}}[5m]))"
        " / sum(rate(kepler_process_cpu_seconds_total"
        '{node_name=~"$node", comm=~"$comm"}[5m]))',
        "watt",
        "What a second of this work costs: watts for each core that is kept busy.",
    ),
    graph(
        "Power by command",
        "watt",
        Query(f"topk(20, sum by (comm) (kepler_process_cpu_watts{{{OF}}}))", "{{comm}}"),
        stacked=True,
    ),
    graph(
        "Power by process",
        "watt",
        Query(
            f"topk(20, sum by (node_name, pid, comm, exe) (kepler_process_cpu_watts{{{OF}}}))",
            "{{node_name}} {{pid}} {{comm}} {{exe}}",
        ),
    ),
    graph(
        "CPU time by command",
        "percentunit",
        Query(
            "topk(20, sum by (comm) (rate(kepler_process_cpu_seconds_total"
            '{node_name=~"$node", comm=~"$comm"}[$__rate_interval])))',
            "{{comm}}",
        ),
        about="In cores.",
    ),
    graph(
        "Power by kind of process",
        "watt",
        Query(f"sum by (type) (kepler_process_cpu_watts{{{OF}}})", "{{type}}"),
        stacked=True,
    ),
    table(
        "Energy of the processes that run",
        "joule",
        Query(
            "topk(100, sum by (node_name, pid, comm, exe, type, container_id)"
            f' (kepler_process_cpu_joules_total{{{OF}, state="running"}}))'
        ),
        "Since kepler-ebpf started on the node.",
    ),
    table(
        "Energy of the processes that ended",
        "joule",
        Query(
            "topk(100, sum by (node_name, pid, comm, exe, type, container_id)"
            f' (last_over_time(kepler_process_cpu_joules_total{{{OF}, state="terminated"}}[$__range])))'
        ),
        "Those above monitor.minTerminatedEnergyThreshold; the rest is in the folded energy.",
    ),
    graph(
        "Folded energy",
        "watt",
        Query(
            _rate(f"kepler_ebpf_folded_joules_total{{{AT}}}", "node_name, level"),
            "{{node_name}} {{level}}",
        ),
        about="Of ended workloads that are not listed one by one.",
    ),
]

HEALTH = [
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
        Query(_rate(f"kepler_ebpf_intervals_total{{{ON}}}", "node_name"), "{{node_name}}"),
        Query(
            _rate(f"kepler_ebpf_failed_intervals_total{{{ON}}}", "node_name"),
            "{{node_name}} failed",
        ),
        Query(
            _rate(f"kepler_ebpf_missed_ticks_total{{{ON}}}", "node_name"), "{{node_name}} missed"
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
        "Lost and untracked CPU time",
        "percentunit",
        Query(_rate(f"kepler_ebpf_lost_cpu_seconds_total{{{ON}}}", "node_name"), "{{node_name}} lost"),
        Query(
            _rate(f"kepler_ebpf_untracked_cpu_seconds_total{{{ON}}}", "node_name"),
            "{{node_name}} untracked",
        ),
        about="In cores. Lost: nobody's. Untracked: known by cgroup only.",
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
        "Own CPU",
        "percentunit",
        Query(_rate(f"kepler_ebpf_own_cpu_seconds_total{{{ON}}}", "node_name"), "{{node_name}}"),
        about="In cores, user space only.",
    ),
    graph(
        "Time of a BPF program run",
        "s",
        Query(
            f"({_rate(f'kepler_ebpf_bpf_run_seconds_total{{{ON}}}', 'node_name')}"
            f" / {_rate(f'kepler_ebpf_bpf_runs_total{{{ON}}}', 'node_name')}) or vector(0)",
            "{{node_name}}",
        ),
        about="Only where the kernel keeps BPF statistics (--bpf-stats); else 0.",
    ),
    graph(
        "Missed BPF program runs",
        "ops",
        Query(_rate(f"kepler_ebpf_bpf_missed_runs_total{{{ON}}}", "node_name"), "{{node_name}}"),
    ),
    graph(
        "CPU time of folded workloads",
        "percentunit",
        Query(
            _rate(f"kepler_ebpf_folded_cpu_seconds_total{{{ON}}}", "node_name, level"),
            "{{node_name}} {{level}}",
        ),
        about="In cores.",
    ),
    table(
        "Loader and meter of each node",
        "none",
        Query(f"kepler_ebpf_info{{{ON}}}"),
        width=12,
    ),
    table("Builds", "none", Query("count by (version, goversion, arch) (kepler_build_info)"), width=12),
]

DASHBOARDS = {
    "cluster": dashboard("cluster", "Cluster", "Power of all nodes.", [ZONE], CLUSTER),
    "node": dashboard("node", "Node", "Where a node's power goes.", [ZONE, NODE], NODES),
    "pods": dashboard(
        "pods", "Namespaces and pods", "Power of pods.", [ZONE, NAMESPACE, POD], PODS
    ),
    "processes": dashboard(
        "processes", "Processes", "Which process it was.", [ZONE, NODE, COMM], PROCESSES
    ),
    "health": dashboard(
        "health", "Exporter health", "Whether the figures hold.", [ZONE, NODE], HEALTH
    ),
}
"""Each dashboard by the name of its file."""
