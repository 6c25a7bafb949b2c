"""Energy of processes, containers and machines, from the kernel's own account of CPU time."""

__version__ = "0.1.0"
