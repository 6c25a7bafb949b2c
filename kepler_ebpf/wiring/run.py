"""`kepler-ebpf run` and `top`: build every part, run the loop, and take everything down again."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

from kepler_ebpf.config.options import Config
from kepler_ebpf.host import memory
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.host.runtime import garbage_rounds, raise_priority
from kepler_ebpf.host.service_manager import ServiceManager
from kepler_ebpf.host.signals import end_on_signals
from kepler_ebpf.host.topology import read_cpu_info
from kepler_ebpf.host.unix_socket import UnixListener
from kepler_ebpf.kernel.libbpf import enable_stats
from kepler_ebpf.ledger.ledger import Ledger, Retention
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.loop.sampler import Sampler
from kepler_ebpf.loop.ticker import Ticker
from kepler_ebpf.model.bounds import MaxListed
from kepler_ebpf.model.energy import UJ_PER_J, Meter
from kepler_ebpf.model.names import Naming
from kepler_ebpf.model.selection import Filter, Selection
from kepler_ebpf.model.stats import ExportStats
from kepler_ebpf.names.kubernetes.pod_infos import PodInfos, PodSource
from kepler_ebpf.names.processes.exits import ExitChecker
from kepler_ebpf.wiring.exporters import start_printer, start_pushing, start_serving
from kepler_ebpf.wiring.measuring import Measuring, open_measuring
from kepler_ebpf.wiring.naming import open_naming
from kepler_ebpf.wiring.view import hidden_cgroups, hidden_processes
from kepler_ebpf.wiring.zones import chosen_kind

LOG = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Measure, attribute and serve until SIGINT or SIGTERM. Raises KeplerError."""
    with ExitStack() as stack:
        ticker = Ticker(config.interval_s)
        stack.callback(ticker.close)
        end_on_signals(ticker.stop)
        is_served = config.prometheus_enabled or config.otlp_enabled
        served_s = config.served_interval_s if is_served else 0.0
        publisher = Publisher(config.staleness_s, ticker.refresh, min_step_s=served_s)
        cpus = read_cpu_info(config.procfs, config.sysfs)
        # Open stdout and ports first: they can fail, and must do so before BPF is loaded.
        printer = start_printer(stack, config, publisher, ticker.stop)
        addresses = start_serving(stack, config, publisher, cpus)
        pushes = start_pushing(stack, config, publisher)
        listener = _jobs_socket(stack, config)
        measuring = open_measuring(stack, config, cpus, with_jobs=listener is not None)
        sampler = _build(
            stack,
            measuring,
            publisher,
            exports=lambda: ExportStats(printer.dropped if printer else 0, pushes()),
            parts=max(1, math.ceil(served_s / config.interval_s)),
        )
        if listener:
            from kepler_ebpf.wiring.jobs import serve_jobs  # noqa: PLC0415

            sampler.jobs = serve_jobs(stack, listener, measuring, ticker)
        serving = ", ".join(addresses) or "no address"
        LOG.info("started: %s; serving on %s", _summary(measuring), serving)
        raise_priority()
        LOG.debug("%d huge pages", memory.collapse())
        if not config.keep_privileges:
            give_up(frozenset(_needed(measuring)))
        sampler.run(ticker)
    LOG.info("stopped")


def _jobs_socket(stack: ExitStack, config: Config) -> UnixListener | None:
    """Listen for jobs of other processes, where that is wanted."""
    if not config.jobs_socket:
        return None
    # Memory that few hosts need.
    from kepler_ebpf.wiring.jobs import open_jobs_socket  # noqa: PLC0415

    return open_jobs_socket(stack, config)


def top(config: Config, **flags: Any) -> None:
    """Show each interval until SIGINT or SIGTERM, or the wanted number. Raises KeplerError."""
    from kepler_ebpf.wiring.top import Asked, listing_all, start_view  # noqa: PLC0415

    asked, config = Asked(**flags), listing_all(config)
    with suppress(BrokenPipeError), ExitStack() as stack:
        ticker = Ticker(config.interval_s)
        stack.callback(ticker.close)
        publisher = Publisher(config.staleness_s, ticker.refresh)
        measuring = open_measuring(stack, config, read_cpu_info(config.procfs, config.sysfs))
        chosen_kind(asked.zone, measuring.meter.zones)
        start_view(stack, asked, publisher, ticker.stop)
        sampler = _build(stack, measuring, publisher, in_detail=True)
        sampler.run(ticker)


def _build(
    stack: ExitStack,
    measuring: Measuring,
    publisher: Publisher,
    *,
    exports: Callable[[], ExportStats] = ExportStats,
    in_detail: bool = False,
    parts: int = 1,
) -> Sampler:
    """Put the parts together and start counting."""
    config = measuring.config
    _warn_of_hidden(measuring)
    if config.bpf_stats:
        stack.callback(os.close, enable_stats())
    pods = _pods(stack, config)
    names = open_naming(stack, config, measuring.hierarchy, pods)
    housekeeping = stack.enter_context(garbage_rounds())
    manager = stack.enter_context(closing(ServiceManager()))
    measurer, tracker, meter = measuring.start(), measuring.tracker, measuring.meter
    return Sampler(
        tracker=tracker,
        meter=meter,
        measurer=measurer,
        ledger=_ledger(config, meter, names, own_pid=tracker.self_process[0], with_tasks=in_detail),
        names=names,
        exits=ExitChecker(config.procfs, tracker.self_process),
        pods=PodInfos(pods),
        publisher=publisher,
        exports=exports,
        housekeeping=housekeeping,
        works=manager.works,
        with_cgroups=in_detail,
        parts=parts,
    )


def _needed(measuring: Measuring) -> Iterator[str]:
    """Yield the capabilities that reading needs, after all is open."""
    # To open counters anew, find a cgroup by its id, and read what processes execute.
    yield from ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE")
    if measuring.meter.stats.name == "perf":
        yield "CAP_PERFMON"  # A CPU that is switched on has a counter to open.
    if measuring.tracker.needs_rights:
        yield "CAP_BPF"


def _warn_of_hidden(measuring: Measuring) -> None:
    procfs, hierarchy = measuring.config.procfs, measuring.hierarchy
    for hidden in (hidden_processes(procfs), hidden_cgroups(hierarchy)):
        if hidden:
            LOG.warning("%s; %s", hidden.problem, hidden.remedy)


def _pods(stack: ExitStack, config: Config) -> PodSource | None:
    """Follow the node's pods; the Kubernetes client is imported only here, when it is wanted."""
    if not config.kube_enabled:
        return None
    # Heavy, and wanted on few hosts.
    from kepler_ebpf.wiring.kubernetes import open_pods  # noqa: PLC0415

    return open_pods(stack, config)


def _ledger(
    config: Config, meter: Meter, names: Naming, own_pid: int, *, with_tasks: bool
) -> Ledger:
    """Keep totals of what the user selects, and of this process, whose cost is in a metric too."""
    return Ledger(
        meter.zones,
        names,
        Retention(
            for_s=config.terminated_retention_s,
            most=config.max_terminated,
            min_uj=config.min_terminated_energy_j * UJ_PER_J,
        ),
        MaxListed(processes=config.max_processes, others=config.max_workloads),
        Selection(
            top_n=config.process_top_n,
            min_uj=config.process_min_j * UJ_PER_J,
            comm=Filter(config.allow_comm, config.deny_comm),
            cgroup=Filter(config.allow_cgroup, config.deny_cgroup),
            namespace=Filter(config.allow_namespace, config.deny_namespace),
            always=own_pid,
        ),
        with_tasks=with_tasks,
    )


def _summary(measuring: Measuring) -> str:
    """Name what was chosen."""
    meter = measuring.meter
    label = meter.stats.name + (" (an ESTIMATE, not measured)" if meter.stats.is_estimate else "")
    zones = ", ".join(
        zone.kind if zone.socket is None else f"{zone.kind}-{zone.socket}" for zone in meter.zones
    )
    used = f"BPF loader {measuring.tracker.loader}, meter {label}, zones {zones}"
    return f"{used}, cgroups of {measuring.hierarchy.name}"
