"""CPU time from the kernel: loads the BPF programs, closes intervals, drains the maps.

The only package that calls BPF. What leaves it is in ``model.usage`` and in the record types of
``layout``.
"""
