"""pyarrow, where it is installed: only the verbs that need it import this."""

from __future__ import annotations

from kepler_ebpf.errors import SetupError, how_to_install

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:
    raise SetupError(
        "recordings need pyarrow, which is not installed here",
        how_to_install("record"),
    ) from None

__all__ = ["pa", "pc"]
