"""A recording attributed anew beside the live figures: the sums of both, and their difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.config.moment import moment_text
from kepler_ebpf.model.arrays import Floats
from kepler_ebpf.model.attributed import Attribution
from kepler_ebpf.model.bounds import harmless
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, Zone
from kepler_ebpf.recording.models import Model
from kepler_ebpf.recording.reader import Recording
from kepler_ebpf.recording.sums import Sums

PARTS = ("energy", "active", "idle", "without an owner")
"""Rows of ``Replayed.node_j``."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The sums of a recording. Every pair is live and replayed.

    ``node_j`` (2, 4, kinds) in joules has the ``PARTS`` of all energy. ``groups`` have by title the
    CPU seconds and then a pair (2, kinds) of joules.
    """

    recording: Recording
    length_s: float
    kinds: tuple[str, ...]
    node_j: Floats
    groups: Mapping[str, tuple[float, Floats]]


def replayed(recording: Recording, model: Model, by: str) -> Replayed:
    """Attribute *recording* as it was live and by *model*, summed *by* one of ``flags.GROUPS``."""
    zones = recording.header.zones
    kinds, sums, length_s = zone_kinds(zones), Sums(by), 0.0
    node_uj = np.zeros((2, len(PARTS), len(kinds)))
    for batch in recording.batches():
        measured = batch.measured
        both = Model().attribute(measured, zones), model.attribute(measured, zones)
        length_s += sum(interval.length_s for interval in measured.intervals)
        node_uj += [_node_uj(each, zones) for each in both]
        shares = [each.shares_uj for each in both]
        sums.add(measured.records, np.column_stack([measured.records["cpu_ns"], *shares]))
    groups = {
        title: (summed[0] / NS_PER_S, summed[1:].reshape(2, len(kinds)) / UJ_PER_J)
        for title, summed in sums.titled(recording.names).items()
    }
    return Replayed(recording, length_s, kinds, node_uj / UJ_PER_J, groups)


def _node_uj(attribution: Attribution, zones: tuple[Zone, ...]) -> Floats:
    columns = np.array([[zone.kind == kind for kind in attribution.kinds] for zone in zones], float)
    active_uj, idle_uj = attribution.active_uj, attribution.idle_uj
    parts = (active_uj + idle_uj, active_uj, idle_uj, attribution.unattributed_uj)
    by_kind: Floats = np.array([part.sum(axis=0) @ columns for part in parts])
    return by_kind


# --- what is shown ----------------------------------------------------------------------------


def table(found: Replayed, kind: str, by: str, top: int) -> str:
    """Return the sums of one *kind* of zone for people, of the *top* groups that differ most."""
    column = found.kinds.index(kind)
    began = moment_text(found.recording.header.began_s)
    rows = [
        (f"[{part}]", live_j, new_j)
        for part, live_j, new_j in zip(PARTS, *found.node_j[:, :, column].tolist(), strict=True)
    ]
    groups = [(title, *pair[:, column].tolist()) for title, (_, pair) in found.groups.items()]
    groups.sort(key=lambda row: (-abs(row[2] - row[1]), -row[2]))
    lines = [
        f"{found.length_s:.1f} s from {began}, zone {kind}",
        f"{'RECORDED J':>12} {'REPLAYED J':>12} {'DIFFERENCE':>12}            {by.upper()}",
        *(_line(*row) for row in rows),
        *(_line(*row) for row in groups[:top]),
    ]
    if len(groups) > top:
        rest = np.array([row[1:] for row in groups[top:]]).sum(axis=0)
        lines.append(_line(f"[{len(groups) - top} more]", *rest.tolist()))
    return "\n".join(lines) + "\n"


def json_text(found: Replayed) -> str:
    """Return all sums as one JSON object."""
    header, parts = found.recording.header, [part.replace(" ", "_") for part in PARTS]
    return json.dumps(
        {
            "node_name": header.node,
            "meter": header.meter,
            "estimate": header.is_estimate,
            "state": found.recording.state.name.lower(),
            "began_s": header.began_s,
            "length_s": found.length_s,
            "node": {
                part: _pairs(found.kinds, found.node_j[:, index])
                for index, part in enumerate(parts)
            },
            "groups": [
                {"name": title, "cpu_s": cpu_s, "joules": _pairs(found.kinds, pair)}
                for title, (cpu_s, pair) in found.groups.items()
            ],
        },
        indent=1,
    )


def _pairs(kinds: tuple[str, ...], pair: Floats) -> dict[str, Any]:
    return {
        kind: {"recorded": live_j, "replayed": new_j}
        for kind, live_j, new_j in zip(kinds, *pair.tolist(), strict=True)
    }


def _line(title: str, live_j: float, new_j: float) -> str:
    percent = f"{100 * (new_j / live_j - 1):+.2f} %" if live_j else ""
    return (
        f"{live_j:>12.4f} {new_j:>12.4f} {new_j - live_j:>+12.4f} {percent:>10} {harmless(title)}"
    )
