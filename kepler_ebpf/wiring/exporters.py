"""The exporters that a configuration wants: the metrics page over HTTP, and stdout."""

from __future__ import annotations

import json
import os
import platform
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import FrameType

from kepler_ebpf import __version__
from kepler_ebpf.config.options import Config
from kepler_ebpf.config.web import read_web_config
from kepler_ebpf.exporters.access import Access, OpenAccess
from kepler_ebpf.exporters.api import Api
from kepler_ebpf.exporters.http import Server, Service
from kepler_ebpf.exporters.metric import Build, Host
from kepler_ebpf.exporters.printer import Printer
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.stdout import json_line, table
from kepler_ebpf.host.facts import read_text
from kepler_ebpf.host.output import ELSEWHERE, standard_output
from kepler_ebpf.host.topology import CpuInfo
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.stats import NO_PUSHES

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Kepler's names of machines, which are Go's."""


def start_printer(
    stack: ExitStack, config: Config, publisher: Publisher, stop: Callable[[], None]
) -> Printer | None:
    """Print each interval where that is wanted; *stop* ends the run when no more can be printed."""
    if not config.stdout_enabled:
        return None
    levels = config.levels
    render = json_line if config.stdout_format == "jsonl" else table
    output = standard_output(f"{ELSEWHERE}, or leave out --exporter.stdout")
    printer = Printer(output, lambda snapshot: render(snapshot, levels), stop)
    stack.callback(printer.close)
    publisher.subscribe(printer.take)
    return printer


def start_pushing(
    stack: ExitStack, config: Config, publisher: Publisher
) -> Callable[[], Mapping[str, int]]:
    """Push to a collector where that is wanted; the returned function counts, by result."""
    if not config.otlp_enabled:
        return lambda: NO_PUSHES
    # An extra, which few have.
    from kepler_ebpf.config.otlp import read_receiver, read_resource  # noqa: PLC0415
    from kepler_ebpf.exporters.otlp import Messages  # noqa: PLC0415
    from kepler_ebpf.exporters.otlp_push import Pusher  # noqa: PLC0415

    def newest() -> Snapshot | None:
        publisher.refresh()
        return publisher.latest()

    build = describe_build()
    resource = {
        "service.name": "kepler-ebpf",
        "service.version": build.version,
        "service.instance.id": config.node_name,
        "host.name": config.node_name,
        "host.arch": build.arch,
        "host.id": read_text(Path(config.host_root, "etc/machine-id")) or "",
        "os.type": "linux",
        "k8s.node.name": config.kube_node_name if config.kube_enabled else "",
        **read_resource(os.environ),
    }
    receiver = read_receiver(config.otlp_endpoint, os.environ)
    messages = Messages(resource, config.levels)
    pusher = Pusher(receiver, messages, newest, config.otlp_interval_s)
    stack.callback(pusher.close)
    return pusher.exports.copy


def start_serving(
    stack: ExitStack, config: Config, publisher: Publisher, cpus: tuple[CpuInfo, ...]
) -> tuple[str, ...]:
    """Serve the metrics page where that is wanted, and return the addresses."""
    if not config.prometheus_enabled:
        return ()
    host = Host(config.node_name, describe_build(), cpus, config.levels)
    access = open_access(config)
    stack.callback(access.close)
    if config.web_config_file:
        _reload_on_hangup(stack, access)
    api = Api(config.node_name, config.levels)
    publisher.follow(api.history.take)
    service = Service(
        page=MetricsPage(host, config.debug_collectors, web=lambda: access.last_reload),
        latest=publisher.latest,
        interval_s=config.interval_s,
        last_interval_s=publisher.last_interval_s,
        refresh=publisher.refresh,
        api=api,
        subscribe=publisher.subscribe,
        unsubscribe=publisher.unsubscribe,
        access=access,
        allowed_hosts=config.allowed_hosts,
    )
    server = Server(None if config.systemd_socket else config.listen_addresses, service)
    stack.callback(server.close)
    return server.addresses


def _reload_on_hangup(stack: ExitStack, access: Access) -> None:
    """Read who is let in anew, beside what else is done."""
    before = signal.getsignal(signal.SIGHUP)

    def reload(number: int, frame: FrameType | None) -> None:
        access.reload()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGHUP, reload)
    stack.callback(signal.signal, signal.SIGHUP, before)


def open_access(config: Config) -> Access:
    """Return who is let in by the web configuration. Raises ConfigError where it cannot work."""
    if not config.web_config_file:
        return OpenAccess()
    # TLS and bcrypt take memory, and few hosts have a web configuration.
    from kepler_ebpf.exporters.guard import Guard  # noqa: PLC0415

    return Guard(partial(read_web_config, Path(config.web_config_file)))


def describe_build() -> Build:
    """Return what is known of this program; a checkout knows neither revision nor branch."""
    machine = platform.machine()
    file = files("kepler_ebpf") / "source.json"
    source = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return Build(
        ARCHITECTURES.get(machine, machine),
        source.get("branch", ""),
        source.get("revision", ""),
        __version__,
        platform.python_version(),
    )
