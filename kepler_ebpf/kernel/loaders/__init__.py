"""Choose a loader and load; everything after it sees only ``Programs``."""

from __future__ import annotations

import logging
from typing import Protocol

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel.loaders import bcc, co_re
from kepler_ebpf.kernel.programs import LoadRequest, Programs


class Loader(Protocol):
    """A way into the kernel; each is a module."""

    def unusable_reason(self) -> str | None:
        """Why it cannot work here, None if it can."""

    def load(self, request: LoadRequest) -> Programs:
        """Load the programs; SetupError where it cannot."""


LOADERS: dict[str, Loader] = {"core": co_re, "bcc": bcc}
"""Every way in, the preferred first."""

_MIN_ENTRIES = 1 << 14
_MAX_ENTRIES = 1 << 18
_ENTRIES_PER_CPU_SECOND = 4096

_log = logging.getLogger(__name__)


def load(name: str, request: LoadRequest) -> Programs:
    """Load with the loader *name*, or with the first that can work here for ``auto``."""
    if name != "auto":
        return LOADERS[name].load(request)
    reasons = []
    for candidate, loader in LOADERS.items():
        reason = loader.unusable_reason()
        if reason is None:
            return loader.load(request)
        _log.warning("loader %s: %s", candidate, reason)
        reasons.append(f"{candidate}: {reason}")
    raise SetupError(
        f"no way to load BPF programs here: {'; '.join(reasons)}",
        "install what one of them lacks; `kepler-ebpf check` shows all of it",
    )


def task_entries(wanted: int, cpus: int, interval_s: float) -> int:
    """Entries of the task map: as asked for, else what a busy host starts in one interval."""
    if wanted:
        return wanted
    estimate = int(cpus * max(interval_s, 1.0) * _ENTRIES_PER_CPU_SECOND)
    rounded = 1 << (estimate - 1).bit_length()
    return min(max(rounded, _MIN_ENTRIES), _MAX_ENTRIES)
