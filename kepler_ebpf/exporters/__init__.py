"""Views of a Snapshot: Prometheus over HTTP, a table and JSON lines. None of them changes it."""
