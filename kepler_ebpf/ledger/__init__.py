"""Totals since start: of the node and of each workload.

Each joule and nanosecond credited is in exactly one row of each level it belongs to, or among the
retired of that level. Totals never fall. In come records with their shares of energy, and names;
nothing here reads a meter or a kernel map, and nothing formats.

A row belongs to a ``Table``: cgroups, processes (a row for each series), and the groups of either
(containers, pods and units of cgroups, virtual machines of processes).
"""
