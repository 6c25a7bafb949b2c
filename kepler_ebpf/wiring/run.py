"""`kepler-ebpf run`: builds every part, runs the loop, and takes everything down again."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kepler_ebpf import __version__
from kepler_ebpf.config.options import Config
from kepler_ebpf.exporters.http import Service, start_server
from kepler_ebpf.exporters.printer import Printer
from kepler_ebpf.exporters.prometheus import MetricsPage
from kepler_ebpf.exporters.stdout import json_line, table
from kepler_ebpf.exporters.values import Build, Host
from kepler_ebpf.host.garbage import no_automatic_rounds
from kepler_ebpf.host.topology import CpuInfo, Topology, read_cpu_info
from kepler_ebpf.kernel.libbpf import enable_stats
from kepler_ebpf.ledger.ledger import Ledger, Retention
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.loop.sampler import Sampler, SamplerDeps
from kepler_ebpf.loop.self_metrics import SelfMetrics
from kepler_ebpf.loop.ticker import Ticker
from kepler_ebpf.meters import BusyTime, open_meter
from kepler_ebpf.model.energy import UJ_PER_J, Meter, Zone
from kepler_ebpf.names.budget import NameBudget
from kepler_ebpf.names.cgroups.hierarchy import CgroupHierarchy
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.kubernetes.pod_infos import PodInfos, PodSource
from kepler_ebpf.names.processes.exits import ExitChecker
from kepler_ebpf.names.resolver import HostPaths, NameResolver
from kepler_ebpf.wiring.meter import meter_request
from kepler_ebpf.wiring.tracker import choose_hierarchy, open_account, start_account

LOG = logging.getLogger(__name__)

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Kepler's names of machines, which are Go's."""

LOOP_NICENESS = -10

TOGETHER_S = 0.05
"""So much of short intervals is accounted for together, unless each is printed."""

GIL_SWITCH_S = 0.0005
"""A scrape in another thread holds the interpreter no longer than this while the loop is due."""


def run(config: Config) -> None:
    """Measure, attribute and serve until SIGINT or SIGTERM. Raises KeplerError."""
    sys.setswitchinterval(GIL_SWITCH_S)
    with ExitStack() as stack:
        ticker = Ticker(config.interval_s)
        stack.callback(ticker.close)
        stack.enter_context(ticker.stopped_by_signals())
        publisher = Publisher(config, ticker.want_now)
        cpus = read_cpu_info(config.procfs, config.sysfs)
        # First what others may keep us from: it is told before anything is put into the kernel.
        printer = _print(stack, config, publisher, ticker)
        addresses = _serve(stack, config, publisher, cpus)
        sampler, summary = _build(stack, config, publisher, cpus, printer)
        LOG.info("started: %s; serving on %s", summary, ", ".join(addresses) or "no address")
        raise_priority()
        sampler.run(ticker, stack.enter_context(no_automatic_rounds()))
    LOG.info("stopped")


def raise_priority() -> None:
    """Let the loop's thread, and no other of ours, be punctual on a busy host, where it may."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, LOOP_NICENESS)
    except PermissionError:
        LOG.debug("the loop runs at normal priority: a higher one needs CAP_SYS_NICE")


def _print(
    stack: ExitStack, config: Config, publisher: Publisher, ticker: Ticker
) -> Printer | None:
    """Print each interval where that is wanted; what cannot be printed ends the run."""
    if not config.stdout_enabled:
        return None
    levels = _levels(config)
    render = json_line if config.stdout_format == "jsonl" else table
    printer = Printer(sys.stdout, lambda snapshot: render(snapshot, levels), ticker.stop)
    stack.callback(printer.close)
    publisher.subscribe(printer.take)
    return printer


def _serve(
    stack: ExitStack, config: Config, publisher: Publisher, cpus: tuple[CpuInfo, ...]
) -> tuple[str, ...]:
    if not config.prometheus_enabled:
        return ()
    machine = platform.machine()
    arch = ARCHITECTURES.get(machine, machine)
    build = Build(arch, "", "", __version__, platform.python_version())
    host = Host(config.node_name, build, cpus, _levels(config))
    service = Service(
        page=MetricsPage(host, config.debug_collectors),
        latest=publisher.latest,
        interval_s=config.interval_s,
        refresh=publisher.refresh,
    )
    server = start_server(config.listen_addresses, service)
    stack.callback(server.close)
    return server.addresses


def _levels(config: Config) -> frozenset[str]:
    return config.metrics_levels | {"unit"} if config.units else config.metrics_levels


def _build(
    stack: ExitStack,
    config: Config,
    publisher: Publisher,
    cpus: tuple[CpuInfo, ...],
    printer: Printer | None,
) -> tuple[Sampler, str]:
    """Put the parts together and start counting; the text says what was chosen."""
    topology = stack.enter_context(Topology(config.sysfs))
    hierarchy = choose_hierarchy(config)
    account, loader_name = open_account(stack, config, topology, hierarchy)
    if config.bpf_stats:
        stack.enter_context(_bpf_stats())
    meter = open_meter(meter_request(config, topology, cpus), lambda: BusyTime(*account.busy))
    stack.callback(meter.close)
    paths = CgroupPaths(hierarchy, config.terminated_retention_s)
    stack.callback(paths.close)
    pods = _pods(stack, config)
    naming = NameBudget(NameResolver(paths, _places(config), pods, units=config.units))
    start_account(account, config, hierarchy)
    parts = SamplerDeps(
        account=account,
        meter=meter,
        ledger=Ledger(meter.zones, naming, _retention(config)),
        paths=paths,
        naming=naming,
        sweep=ExitChecker(config.procfs, account.self_process),
        pods=PodInfos(pods),
        health=SelfMetrics(account, meter, loader_name, printer),
        publish=publisher.publish,
        together_s=_together_s(config),
    )
    return Sampler(parts), _summary(loader_name, meter, hierarchy)


def _together_s(config: Config) -> float:
    """How much of what was measured may wait to be accounted for together."""
    return 0.0 if config.stdout_enabled else min(TOGETHER_S, config.staleness_s)


@contextmanager
def _bpf_stats() -> Iterator[None]:
    descriptor = enable_stats()
    try:
        yield
    finally:
        os.close(descriptor)


def _places(config: Config) -> HostPaths:
    """Where names are: with the host's procfs mounted, its files are seen through its PID 1."""
    is_own = config.procfs == Config().procfs
    return HostPaths(config.procfs, "/" if is_own else f"{config.procfs}/1/root")


def _pods(stack: ExitStack, config: Config) -> PodSource | None:
    """Follow the node's pods; the Kubernetes client is imported only here, when asked for."""
    if not config.kube_enabled:
        return None
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.names.kubernetes.start import start_pod_source  # noqa: PLC0415
    from kepler_ebpf.wiring.kubernetes import pod_source_options  # noqa: PLC0415

    source = start_pod_source(pod_source_options(config))
    stack.callback(source.close)
    return source


def _retention(config: Config) -> Retention:
    return Retention(
        for_s=config.terminated_retention_s,
        most=config.max_terminated,
        min_uj=config.min_terminated_energy_j * UJ_PER_J,
    )


def _summary(loader_name: str, meter: Meter, hierarchy: CgroupHierarchy) -> str:
    label = f"{meter.name} (an ESTIMATE, not measured)" if meter.is_estimate else meter.name
    return (
        f"BPF loader {loader_name}, meter {label}, zones {_zone_list(meter.zones)}, "
        f"cgroups of {hierarchy.name}"
    )


def _zone_list(zones: tuple[Zone, ...]) -> str:
    return ", ".join(
        zone.kind if zone.socket is None else f"{zone.kind}-{zone.socket}" for zone in zones
    )
