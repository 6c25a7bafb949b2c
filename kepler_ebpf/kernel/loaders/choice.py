"""Choose a loader and load; everything after it sees only ``Programs``."""

from __future__ import annotations

import logging
from importlib import import_module

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.facts import lockdown
from kepler_ebpf.kernel.loaders import LOADERS
from kepler_ebpf.kernel.programs import LoadRequest, Programs

LOG = logging.getLogger(__name__)

FORBIDS_READS = "confidentiality"
"""The mode of a locked down kernel in which BPF programs cannot work."""

MIN_ENTRIES_PER_S = 1 << 14
MIN_INTERVAL_S, MAX_MIN_INTERVAL_S = 0.25, 1.0
"""The least map is for an interval between these: every drain reads all of it, empty or not."""

MAX_ENTRIES = 1 << 18
ENTRIES_PER_CPU_SECOND = 4096


def load(name: str, request: LoadRequest) -> Programs:
    """Load with the loader *name*, or with the first that can work here for ``auto``."""
    reasons = []
    for candidate in LOADERS if name == "auto" else (name,):
        loader = import_module(f"{__package__}.{LOADERS[candidate]}")
        reason = loader.unusable_reason() if name == "auto" else None
        if reason is None:
            try:
                programs: Programs = loader.load(request)
            except SetupError as error:
                if lockdown() != FORBIDS_READS:
                    raise
                raise SetupError(
                    f"the kernel is in lockdown mode {FORBIDS_READS}, where no program reads its "
                    f"memory: {error.problem}",
                    "boot it with lockdown=integrity, or without lockdown",
                ) from error
            return programs
        LOG.warning("loader %s: %s", candidate, reason)
        reasons.append(f"{candidate}: {reason}")
    raise SetupError(
        f"no way to load BPF programs here: {'; '.join(reasons)}",
        "install what one of them lacks; `kepler-ebpf check` shows all of it",
    )


def task_entries(wanted: int, cpus: int, interval_s: float) -> int:
    """Return the size of the task map: *wanted*, else what a busy host starts in one interval."""
    if wanted:
        return wanted
    length_s = max(interval_s, MIN_INTERVAL_S)
    least = MIN_ENTRIES_PER_S * min(length_s, MAX_MIN_INTERVAL_S)
    estimate = int(max(cpus * length_s * ENTRIES_PER_CPU_SECOND, least))
    return min(1 << (estimate - 1).bit_length(), MAX_ENTRIES)
