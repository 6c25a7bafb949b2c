"""Values that travel between the parts: energy, usage, workloads, names, snapshot.

Frozen, without I/O and without a clock. Units are in the names: ``_ns`` nanoseconds, ``_uj``
microjoules, ``_w`` watts. A value that two packages exchange belongs here. Imports nothing of
ours.
"""
