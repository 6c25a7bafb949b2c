"""This machine, and how the program behaves on it.

Reading of files, CPUs and facts; the log; priority, garbage collection and memory of this process.
Nothing here depends on energy, workloads or settings.
"""
