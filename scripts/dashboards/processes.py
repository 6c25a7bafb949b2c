"""Power and energy by process, ended ones included."""

from .choices import AT, COMM, NODE, ZONE, rate
from .grafana import Query, dashboard, graph, stat, table

OF = 'zone="$zone", node_name=~"$node", comm=~"$comm"'
ONE_BY_ONE = 'pid!="0"'
"""Without the rows that stand for many processes: what these had used joins them when they are
retired, which is no rate of anything."""

PANELS = [
    stat("Power", f"sum(kepler_process_cpu_watts{{{OF}}})", "watt"),
    stat(
        "Processes",
        f'count(kepler_process_cpu_watts{{{OF}, {ONE_BY_ONE}, state="running"}})',
        "none",
    ),
    stat(
        "Joules per CPU second",
        f"sum(rate(kepler_process_cpu_joules_total{{{OF}, {ONE_BY_ONE}}}[5m]))"
        " / sum(rate(kepler_process_cpu_seconds_total"
        f'{{node_name=~"$node", comm=~"$comm", {ONE_BY_ONE}}}[5m]))',
        "watt",
        "Energy of one CPU second of this work: watts for each busy core.",
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
            f'{{node_name=~"$node", comm=~"$comm", {ONE_BY_ONE}}}[$__rate_interval])))',
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
            " (last_over_time(kepler_process_cpu_joules_total"
            f'{{{OF}, state="terminated"}}[$__range])))'
        ),
        "Those above monitor.minTerminatedEnergyThreshold; the rest: [retired] and [others].",
    ),
    graph(
        "Retired energy",
        "watt",
        Query(
            rate(f"kepler_ebpf_retired_joules_total{{{AT}}}", "node_name, level"),
            "{{node_name}} {{level}}",
        ),
        about="Of workloads that are not listed; for processes, rows [retired] and [others].",
    ),
]

DASHBOARD = dashboard("processes", "Processes", "Power of processes.", [ZONE, NODE, COMM], PANELS)
