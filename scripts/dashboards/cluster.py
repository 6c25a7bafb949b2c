"""Power, energy and cost of all nodes, by node, namespace and workload."""

from .choices import ZONE
from .grafana import Panel, Query, dashboard, graph, row, stat, table

PANELS = [
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
        Query(
            'topk(20, sum by (node_name) (kepler_node_cpu_watts{zone="$zone"}))', "{{node_name}}"
        ),
        stacked=True,
    ),
    graph(
        "Power by namespace",
        "watt",
        Query(
            "topk(20, sum by (pod_namespace)"
            ' (namespace_zone:kepler_pod_cpu:watts5m{zone="$zone"}))',
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
        "Without an owner: pods that kepler_ebpf_pod_info does not list.",
        width=12,
    ),
    row("Cost and carbon, where cost.yaml and factors.yaml are loaded"),
    stat("Cost per hour", 'sum(zone:kepler_node_cpu:cost_per_hour{zone="$zone"})', "none"),
    stat("CO₂e per hour", 'sum(zone:kepler_node_cpu:grams_co2e_per_hour{zone="$zone"})', "massg"),
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

DASHBOARD = dashboard("cluster", "Cluster", "Power of all nodes.", [ZONE], PANELS)
