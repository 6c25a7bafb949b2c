"""JSON for speedscope: a profile for each kind of zone, and one for CPU time.

Speedscope has no unit of energy, so the weights are millijoules without a unit, and the names of
the profiles say so.
"""

from __future__ import annotations

import json
from typing import Any

from kepler_ebpf import __version__
from kepler_ebpf.model.arrays import Ints
from kepler_ebpf.profile.formats.caption import title
from kepler_ebpf.profile.formats.merged import merged, whole
from kepler_ebpf.profile.model import Profile

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
"""By this word the viewer knows the format. Nothing is loaded from there."""

UJ_PER_MJ = 1000


def write(profile: Profile, kind: str) -> bytes:
    """Return the JSON; the profile of *kind* is the one that is shown first."""
    found = merged(profile)
    programs = sorted({process.comm for process in profile.processes})
    first = {comm: len(profile.frames) + index for index, comm in enumerate(programs)}
    samples = [
        [first[profile.processes[process].comm], *profile.stacks[stack]]
        for process, stack in zip(found.process, found.stack, strict=True)
    ]
    mark = ", ESTIMATE" if profile.is_estimate else ""
    profiles = [
        _sampled(f"{each} energy (mJ{mark})", "none", whole(found.energy_uj[:, index]), UJ_PER_MJ)
        for index, each in enumerate(profile.kinds)
    ]
    profiles.append(_sampled("CPU time", "nanoseconds", whole(found.cpu_ns), 1))
    document = {
        "$schema": SCHEMA,
        "exporter": f"kepler-ebpf@{__version__}",
        "name": title(profile, kind),
        "activeProfileIndex": profile.kinds.index(kind),
        "shared": {
            "frames": [
                *({"name": frame.name, "file": frame.module} for frame in profile.frames),
                *({"name": program} for program in programs),
            ]
        },
        "profiles": [{**each, "samples": samples} for each in profiles],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _sampled(name: str, unit: str, values: Ints, scale: int) -> dict[str, Any]:
    return {
        "type": "sampled",
        "name": name,
        "unit": unit,
        "startValue": 0,
        "endValue": int(values.sum()) / scale,
        "weights": [value / scale for value in values.tolist()],
    }
