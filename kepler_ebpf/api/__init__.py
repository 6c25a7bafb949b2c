"""Joules of a block of Python, measured in the process that runs it.

What a program imports: ``from kepler_ebpf import measure, energyit``. One engine for each process,
above the wiring of the verbs; nothing below imports it.
"""
