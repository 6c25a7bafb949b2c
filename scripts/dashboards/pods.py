"""Namespaces, their pods and containers."""

from .choices import IN, NAMED, NAMESPACE, POD, ZONE
from .grafana import Query, dashboard, graph, stat, table

OF_THE_POD = (
    "* on (pod_id) group_left (pod_namespace, pod_name)"
    " group by (pod_id, pod_namespace, pod_name)"
    f' (kepler_pod_cpu_watts{{{IN}, pod_name=~"$pod"}})'
)
"""Keeps a container's series if it is of a pod that was chosen, and names the pod."""

PANELS = [
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
            "topk(20, sum by (pod_id, container_name)"
            f' (kepler_container_cpu_watts{{zone="$zone", {NAMED}}}) {OF_THE_POD})',
            "{{pod_name}}/{{container_name}}",
        ),
        about="Without the pause containers.",
        stacked=True,
    ),
    graph(
        "CPU time by container",
        "percentunit",
        Query(
            "topk(20, sum by (pod_id, container_name)"
            f" (rate(kepler_container_cpu_seconds_total{{{NAMED}}}[$__rate_interval]))"
            f" {OF_THE_POD})",
            "{{pod_name}}/{{container_name}}",
        ),
        about="In cores, without the pause containers.",
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

DASHBOARD = dashboard(
    "pods", "Namespaces and pods", "Power of pods.", [ZONE, NAMESPACE, POD], PANELS
)
