"""Makes the Config of a run: flags, else the YAML file, else defaults.

A setting that cannot work is a ConfigError; a setting without effect is a warning.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepler_ebpf.config.option import Option, Setting
from kepler_ebpf.config.options import OPTIONS, Config
from kepler_ebpf.config.unsupported import UNSUPPORTED, UnsupportedFeature
from kepler_ebpf.config.values import FALSE_WORDS
from kepler_ebpf.errors import ConfigError, how_to_install
from kepler_ebpf.exporters.listen import is_local
from kepler_ebpf.meters import UNSUPPORTED_METERS
from kepler_ebpf.model.pods import exported_label

Settings = Mapping[str, Setting]

KEYS = frozenset(option.key for option in OPTIONS)
UNSUPPORTED_KEYS = frozenset(key for feature in UNSUPPORTED for key in feature.keys)
MAX_SHOWN_CHARACTERS = 60

MIN_OPEN_S = 1.0
"""Energy of shorter times is a side channel, as CVE-2020-8694 shows: not for other hosts."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Config, and the warnings about its settings."""

    config: Config
    warnings: tuple[str, ...]


def load_config(flags: Settings, file: str | None = None) -> Loaded:
    """Merge *flags*, by YAML key, over the YAML *file* over the defaults.

    Raises ConfigError with the flag, or the file, line and key, and what is allowed.
    """
    in_file: dict[str, Setting] = {}
    warnings: list[str] = []
    if file is not None:
        # YAML takes time, and a command that is measured waits for it.
        from kepler_ebpf.config.file import read_file  # noqa: PLC0415

        in_file, warnings = read_file(Path(file), KEYS, UNSUPPORTED_KEYS)
    settings = {**in_file, **flags}
    given: dict[str, Any] = {
        option.field: _parse(option, settings[option.key])
        for option in OPTIONS
        if option.key in settings
    }
    config = _with_downward_api(Config(**given))
    _refuse_contradictions(config)
    unsupported = [_unsupported_warning(feature, settings) for feature in UNSUPPORTED]
    warnings += [*filter(None, unsupported), *_warnings(config)]
    return Loaded(_completed(config, settings), tuple(warnings))


def _parse(option: Option, setting: Setting) -> object:
    if isinstance(setting.value, tuple) != option.is_list:
        have, want = ("one value", "a list") if option.is_list else ("a list", "one value")
        raise ConfigError(f"{setting.source} has {have}", f"want {want}")
    try:
        return option.parse(setting.value)
    except ValueError as error:
        problem = f"{setting.source}: {_shown(setting)} is not allowed"
        raise ConfigError(problem, f"want {error}") from None


def _shown(setting: Setting) -> str:
    text = setting.value if isinstance(setting.value, str) else ", ".join(setting.value)
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}...")


def _with_downward_api(config: Config) -> Config:
    """Take what a pod's manifest passes in the environment where no setting gives it."""
    return dataclasses.replace(
        config,
        kube_node_name=config.kube_node_name or os.environ.get("NODE_NAME", ""),
        kubelet_host=config.kubelet_host or os.environ.get("NODE_IP", ""),
    )


def _completed(config: Config, settings: Settings) -> Config:
    """Set what follows from other settings; keep only our own meters."""
    is_named = "ebpf.nodeName" in settings or not config.kube_node_name
    return dataclasses.replace(
        config,
        node_name=config.node_name if is_named else config.kube_node_name,
        preferred_meters=tuple(
            meter for meter in config.preferred_meters if meter not in UNSUPPORTED_METERS
        ),
    )


def _refuse_contradictions(config: Config) -> None:
    """Refuse settings that are each valid but cannot work on this host or together."""
    for flag, path in (("--host.sysfs", config.sysfs), ("--host.procfs", config.procfs)):
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
            remedy = "give the directory where the host's is mounted"
            raise ConfigError(f"{flag}: {path!r} is not a directory", remedy)
    if config.kube_enabled and not config.kube_node_name:
        raise ConfigError(
            "kube.enabled is on, but the node's name in Kubernetes is not given",
            "give it with --kube.node-name, kube.nodeName or the environment's NODE_NAME",
        )
    if (config.allow_namespace or config.deny_namespace) and not config.kube_enabled:
        raise ConfigError(
            "ebpf.allowNamespace or ebpf.denyNamespace is given, but kube.enabled is off: no "
            "namespace is known",
            "switch it on with --kube.enable, or leave them out",
        )
    _refuse_equal_labels(config.pod_labels)
    _refuse_fine_figures(config)
    if config.web_config_file:
        from kepler_ebpf.config.web import read_web_config  # noqa: PLC0415

        read_web_config(Path(config.web_config_file))
    if config.otlp_enabled:
        _refuse_receiver(config.otlp_endpoint)


def _refuse_receiver(endpoint: str) -> None:
    """Refuse a receiver that cannot be pushed to."""
    try:
        # An extra, which few have.
        from kepler_ebpf.config.otlp import read_receiver, read_resource  # noqa: PLC0415
    except ImportError:
        problem = "--exporter.otlp needs the package opentelemetry-proto"
        raise ConfigError(problem, how_to_install("otlp")) from None
    read_receiver(endpoint, os.environ)
    read_resource(os.environ)


def _refuse_fine_figures(config: Config) -> None:
    """Refuse to serve figures of short times to other hosts: they show what programs compute."""
    if config.served_interval_s >= MIN_OPEN_S:
        return
    problem = f"ebpf.servedInterval is {config.served_interval_s:g} s, and"
    remedy = f"or set it to {MIN_OPEN_S:g}s or more"
    open_to_all = [address for address in config.listen_addresses if not is_local(address)]
    if config.systemd_socket:
        open_to_all = ["what systemd passes"]
    if config.prometheus_enabled and open_to_all:
        problem = f"{problem} {open_to_all[0]} can be reached from other hosts"
        raise ConfigError(problem, f"serve on 127.0.0.1, [::1] or unix sockets, {remedy}")
    if config.otlp_enabled:
        problem = f"{problem} --exporter.otlp sends figures to another program"
        raise ConfigError(problem, f"switch that off, {remedy}")


def _refuse_equal_labels(pod_labels: tuple[str, ...]) -> None:
    """Refuse labels that have one name in Prometheus, which allows fewer characters."""
    taken: dict[str, str] = {}
    for label in pod_labels:
        other = taken.setdefault(exported_label(label), label)
        if other != label:
            raise ConfigError(
                f"ebpf.podLabels: {other} and {label} would both be {exported_label(label)}",
                "keep one of the two",
            )


def _warnings(config: Config) -> list[str]:
    warnings = [
        f"cpu.preferredMeters: kepler-ebpf has no {meter} meter and skips it"
        for meter in config.preferred_meters
        if meter in UNSUPPORTED_METERS
    ]
    if not (config.prometheus_enabled or config.stdout_enabled or config.otlp_enabled):
        warnings.append("exporter.prometheus and exporter.stdout are off: nothing will be exported")
    if config.kube_enabled and config.kube_mode == "kubelet" and not config.kubelet_verify:
        warnings.append(
            "ebpf.kubelet.verify is off: the kubelet's certificate is not verified, and whatever "
            "answers at its address receives the token of kepler-ebpf"
        )
    return warnings


def _unsupported_warning(feature: UnsupportedFeature, settings: Settings) -> str | None:
    """Return the warning where *feature* is switched on."""
    switches = [feature.switch] if feature.switch else list(feature.keys)
    used = [settings[key] for key in switches if key in settings and _is_on(settings[key])]
    if not used:
        return None
    return f"{used[0].source} has no effect: {feature.feature} not supported"


def _is_on(setting: Setting) -> bool:
    value = setting.value
    return bool(value) and (isinstance(value, tuple) or value.lower() not in FALSE_WORDS)
