"""Makes the Config of a run: flags, else the YAML file, else defaults.

Refuses what makes no sense with a ConfigError; what is harmless but has no effect is a warning.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepler_ebpf.config.file import FileSettings, Keys, Setting, read_file
from kepler_ebpf.config.options import OPTIONS, UNSUPPORTED_METERS, Config, Option
from kepler_ebpf.config.unsupported import UNSUPPORTED, UnsupportedFeature
from kepler_ebpf.config.values import FALSE_WORDS
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.model.pods import exported_label

Settings = Mapping[str, Setting]

KEYS = Keys(
    values=frozenset(option.key for option in OPTIONS),
    opaque=frozenset(key for foreign in UNSUPPORTED for key in foreign.keys),
)
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Config, and what the user should be told about it."""

    config: Config
    warnings: tuple[str, ...]


def load_config(flags: Settings, file: str | None = None) -> Loaded:
    """Merge *flags*, by YAML key, over the YAML *file* over the defaults.

    Raises ConfigError naming the flag, or the file, line and key, and what is allowed.
    """
    found = read_file(Path(file), KEYS) if file is not None else FileSettings()
    settings = {**found.settings, **flags}
    given: dict[str, Any] = {
        option.field: _parse(option, settings[option.key])
        for option in OPTIONS
        if option.key in settings
    }
    config = _with_kubelet_host(_with_node_name(Config(**given), settings))
    _require_sense(config)
    unsupported = [_unsupported(foreign, settings) for foreign in UNSUPPORTED]
    warnings = [*found.warnings, *filter(None, unsupported), *_advice(config)]
    return Loaded(_without_foreign_meters(config), tuple(warnings))


def _parse(option: Option, setting: Setting) -> object:
    if isinstance(setting.value, tuple) != option.is_list:
        have, want = ("one value", "a list") if option.is_list else ("a list", "one value")
        raise ConfigError(f"{setting.source} has {have}\nwant {want}")
    try:
        return option.parse(setting.value)
    except ValueError as error:
        raise ConfigError(
            f"{setting.source}: {_shown(setting)} is not allowed\nwant {error}"
        ) from None


def _shown(setting: Setting) -> str:
    text = setting.value if isinstance(setting.value, str) else ", ".join(setting.value)
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")


def _with_node_name(config: Config, settings: Settings) -> Config:
    if config.kube_node_name and "ebpf.nodeName" not in settings:
        return dataclasses.replace(config, node_name=config.kube_node_name)
    return config


def _with_kubelet_host(config: Config) -> Config:
    host = config.kubelet_host or os.environ.get("NODE_IP", "")
    return dataclasses.replace(config, kubelet_host=host)


def _require_sense(config: Config) -> None:
    """Refuse settings that are each fine but cannot work here or together."""
    for flag, path in (("--host.sysfs", config.sysfs), ("--host.procfs", config.procfs)):
        if not _is_directory(path):
            raise ConfigError(
                f"{flag}: {path!r} is not a directory\nname where the host's is mounted"
            )
    if config.kube_enabled and not config.kube_node_name:
        raise ConfigError(
            "kube.enabled is on, but the node's name in Kubernetes is not given\n"
            "give it with --kube.node-name or kube.nodeName"
        )
    _refuse_clashes(config.pod_labels)


def _refuse_clashes(pod_labels: tuple[str, ...]) -> None:
    """Refuse labels that Prometheus, which knows fewer characters, could not tell apart."""
    taken: dict[str, str] = {}
    for label in pod_labels:
        other = taken.setdefault(exported_label(label), label)
        if other != label:
            raise ConfigError(
                f"ebpf.podLabels: {other} and {label} would both be {exported_label(label)}\n"
                "keep one of the two"
            )


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _advice(config: Config) -> list[str]:
    warnings = [
        f"cpu.preferredMeters: kepler-ebpf has no {meter} meter, it is passed over"
        for meter in config.preferred_meters
        if meter in UNSUPPORTED_METERS
    ]
    if not config.prometheus_enabled and not config.stdout_enabled:
        warnings.append("exporter.prometheus and exporter.stdout are off: nothing will be exported")
    if config.kube_enabled and config.kube_mode == "kubelet" and not config.kubelet_verify:
        warnings.append(
            "ebpf.kubelet.verify is off: whatever answers at the kubelet's address is believed, "
            "and is sent our token"
        )
    return warnings


def _without_foreign_meters(config: Config) -> Config:
    ours = tuple(meter for meter in config.preferred_meters if meter not in UNSUPPORTED_METERS)
    return dataclasses.replace(config, preferred_meters=ours)


def _unsupported(foreign: UnsupportedFeature, settings: Settings) -> str | None:
    """Say that a feature is asked for that kepler-ebpf lacks; an error where that is unsafe."""
    asking = [foreign.switch] if foreign.switch else list(foreign.keys)
    used = [settings[key] for key in asking if key in settings and _is_on(settings[key])]
    if not used:
        return None
    if foreign.refusal:
        raise ConfigError(f"{used[0].source}: {foreign.feature} not supported\n{foreign.refusal}")
    return f"{used[0].source} has no effect: {foreign.feature} not supported"


def _is_on(setting: Setting) -> bool:
    value = setting.value
    return bool(value) and (isinstance(value, tuple) or value.lower() not in FALSE_WORDS)
