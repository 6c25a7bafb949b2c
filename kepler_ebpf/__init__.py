"""Energy of processes, containers and machines, from the kernel's own account of CPU time.

``measure`` and ``energyit`` measure a block of Python, see ``api/README.md``.
"""

from importlib import import_module

__version__ = "0.1.0"

_API = {
    "measure": "kepler_ebpf.api.measure",
    "Measurement": "kepler_ebpf.api.measurement",
    "energyit": "kepler_ebpf.api.measure",
    "EnergyPerCall": "kepler_ebpf.api.measurement",
}


def __getattr__(name: str) -> object:
    """Import what programs use when they use it: the package itself stays light."""
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
