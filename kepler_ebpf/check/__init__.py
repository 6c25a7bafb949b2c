"""What this host offers and lacks: the work of `kepler-ebpf check`.

One function for each finding. A finding names the thing, and its remedy where it is missing.
"""
