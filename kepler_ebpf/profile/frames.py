"""Frames and samples before they have names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kepler_ebpf.model.arrays import Ints, Records

AT_ADDRESS, IN_KERNEL, SPECIAL = 2, 3, 4
"""Kinds of frames beside ``FRAME_IN_FILE``. A frame at an address has its process in the place of
the build id, see ``processes_of``."""

SPECIAL_FRAMES = (
    "[unsampled]",
    "[unattributed]",
    "[no user stack]",
    "[missed stack]",
    "[truncated stack]",
    "[not kept]",
)
"""Frames that are of no code, by their number."""
UNSAMPLED, UNATTRIBUTED, NO_USER_STACK, MISSED_STACK, TRUNCATED_STACK, NOT_KEPT = range(6)

WITH_PROCESS = np.dtype([("start_ns", "<u8"), ("tgid", "<u4"), ("reserved", "V8")])


class Sampled(NamedTuple):
    """Samples: ``heads`` (N,) of dtype ``kernel.samples.HEAD``, and the number of each stack."""

    heads: Records
    stack: Ints


def processes_of(frames: Records) -> Records:
    """Return the processes of *frames* (N,) at addresses: records of ``start_ns``, ``tgid``."""
    identities: Records = np.ascontiguousarray(frames["build_id"]).view(WITH_PROCESS)
    return identities
