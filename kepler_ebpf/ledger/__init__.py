"""Totals since start: of the node and of each workload.

Every joule and nanosecond credited is, at each level it belongs to, in exactly one row. Totals
never fall. Knows records, names and shares; knows no meter, no map and no exporter.
"""
