"""Views of a Snapshot: Prometheus over HTTP, a table and JSON lines.

``catalog`` has every metric. An exporter reads snapshots, changes none, and sees no map, meter or
ledger.
"""
