"""The kind of zone that a flag names, of those that there are."""

from __future__ import annotations

from collections.abc import Sequence

from kepler_ebpf.attribution import zone_kinds
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.model.energy import Zone, primary_kind


def chosen_kind(kind: str, zones: tuple[Zone, ...], where: str = "here") -> str:
    """Return the *kind* that --zone names, or the widest without it. Raises ConfigError."""
    kinds = zone_kinds(zones)
    return require_kind("--zone", kind, kinds, where) if kind else primary_kind(kinds)


def require_kind(flag: str, kind: str, kinds: Sequence[str], where: str) -> str:
    """Return the *kind* that *flag* names. Raises ConfigError where there is none."""
    if kind not in kinds:
        problem = f"{flag}: there is no zone {kind!r} {where}"
        raise ConfigError(problem, f"want one of: {', '.join(kinds)}")
    return kind
