"""The Grafana dashboards and their queries.

Zones overlap, so every figure is of the one zone that is chosen above the dashboard. Sums over
pods and time come from deploy/prometheus/rules, which include pods that lived for seconds.
"""

from . import cluster, health, node, pods, processes

DASHBOARDS = {
    "cluster": cluster.DASHBOARD,
    "node": node.DASHBOARD,
    "pods": pods.DASHBOARD,
    "processes": processes.DASHBOARD,
    "health": health.DASHBOARD,
}
"""Each dashboard by the name of its file."""
