"""The choices above the dashboards, and the selectors that follow them."""

from .grafana import Variable

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
NAMED = 'container_name!~"[0-9a-f]{12}"'
"""Of a pod's containers those with a name: the pause container has its short id in place of one."""


def rate(metric: str, by: str) -> str:
    """Return the rate of a counter by these labels, over the range that Grafana chooses."""
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"
