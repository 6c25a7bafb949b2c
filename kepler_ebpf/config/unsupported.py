"""Features of Kepler that kepler-ebpf lacks: a setting of one is a warning."""

from __future__ import annotations

from dataclasses import dataclass

from kepler_ebpf.config import values
from kepler_ebpf.config.option import Option


@dataclass(frozen=True, slots=True)
class UnsupportedFeature:
    """A feature of Kepler that kepler-ebpf lacks.

    ``feature`` is its name and verb, for "... not supported". ``keys`` maps each YAML key to its
    flag, None where it has none. The feature is used where ``switch`` is on, or where any key is
    given and there is no switch.
    """

    feature: str
    keys: dict[str, str | None]
    switch: str | None = None


UNSUPPORTED = (
    UnsupportedFeature(
        "Go profiling is", {"debug.pprof.enabled": "--debug.pprof"}, "debug.pprof.enabled"
    ),
    UnsupportedFeature(
        "Redfish platform power is",
        {
            "experimental.platform.redfish.enabled": "--experimental.platform.redfish.enabled",
            "experimental.platform.redfish.nodeName": "--experimental.platform.redfish.node-name",
            "experimental.platform.redfish.configFile": (
                "--experimental.platform.redfish.config-file"
            ),
            "experimental.platform.redfish.nodeID": None,
            "experimental.platform.redfish.httpTimeout": None,
            "experimental.platform.redfish.staleness": None,
        },
        "experimental.platform.redfish.enabled",
    ),
    UnsupportedFeature(
        "hwmon metering is",
        {
            "experimental.hwmon.enabled": "--experimental.hwmon.enabled",
            "experimental.hwmon.forceEnabled": "--experimental.hwmon.force-enabled",
            "experimental.hwmon.zones": "--experimental.hwmon.zones",
            "experimental.hwmon.chipRules": None,
        },
    ),
    UnsupportedFeature(
        "GPU metering is",
        {
            "experimental.gpu.enabled": "--experimental.gpu.enabled",
            "experimental.gpu.idlePower": "--experimental.gpu.idle-power",
            "experimental.gpu.dcgmEndpoint": "--experimental.gpu.dcgm-endpoint",
        },
        "experimental.gpu.enabled",
    ),
)

UNSUPPORTED_OPTIONS = tuple(
    Option("", key, (flag,), "", "", values.boolean if key.lower().endswith("enabled") else str)
    for feature in UNSUPPORTED
    for key, flag in feature.keys.items()
    if flag
)
"""Those with a flag: it is parsed, and has no help. The keys of switches end in "enabled"."""
