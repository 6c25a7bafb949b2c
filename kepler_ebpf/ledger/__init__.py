"""Totals since start: of the node and of each workload.

Each joule and nanosecond credited is in exactly one row of each level it belongs to, or among the
retired of that level. Totals never fall. In come records with their shares of energy, and names;
nothing here reads a meter or a kernel map, and nothing formats.

Which workloads have a row of their own is the user's selection (``model.selection``); what the
others use is in rows of several. ``selector`` and ``candidates`` apply it to processes.

A row belongs to a ``Table``: cgroups, processes (a row for each series), and the groups of either
(containers, pods and units of cgroups, virtual machines of processes).
"""
