"""Where a node's power goes: zones, sockets, containers, processes."""

from .choices import AT, NAMED, NODE, ON, ZONE, rate
from .grafana import Query, dashboard, graph, stat

PANELS = [
    stat("Power", f"sum(kepler_node_cpu_watts{{{AT}}})", "watt"),
    stat("Active", f"sum(kepler_node_cpu_active_watts{{{AT}}})", "watt"),
    stat("Idle", f"sum(kepler_node_cpu_idle_watts{{{AT}}})", "watt"),
    stat("CPU busy", f"avg(kepler_node_cpu_usage_ratio{{{ON}}})", "percentunit"),
    # Kepler's metric has no node_name, but its target is the node's exporter.
    stat(
        "CPUs",
        f"count(kepler_node_cpu_info and on (job, instance) kepler_ebpf_info{{{ON}}})",
        "none",
    ),
    stat("Meter age", f"max(kepler_ebpf_snapshot_age_seconds{{{ON}}})", "s"),
    graph(
        "Power by zone",
        "watt",
        Query(
            f"sum by (node_name, zone) (kepler_node_cpu_watts{{{ON}}})", "{{node_name}} {{zone}}"
        ),
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
            rate(f"kepler_ebpf_zone_joules_total{{{AT}}}", "node_name, socket, split"),
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
            f" (kepler_container_cpu_watts{{{AT}, {NAMED}}}"
            f' or kepler_container_cpu_watts{{{AT}, pod_id=""}}))',
            "{{container_name}} {{container_id}}",
        ),
        about="Without the pause containers of pods.",
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
            rate(f"kepler_ebpf_unattributed_joules_total{{{AT}}}", "node_name, socket"),
            "{{node_name}} socket {{socket}}",
        ),
        about="Active energy of a socket on which no task ran, or of lost CPU time.",
    ),
]

DASHBOARD = dashboard("node", "Node", "Where a node's power goes.", [ZONE, NODE], PANELS)
