"""Measured intervals in this process, for figures that need no exporter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from kepler_ebpf.config.options import Config
from kepler_ebpf.host.topology import read_cpu_info
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.model.energy import Zone
from kepler_ebpf.model.usage import Measured
from kepler_ebpf.wiring.measuring import open_measuring


class Intervals:
    """Intervals that end when ``next`` is called."""

    def __init__(self, measurer: Measurer, zones: tuple[Zone, ...]) -> None:
        self._measurer = measurer
        self.zones = zones

    def next(self) -> Measured:
        """End the running interval, and return it alone."""
        self._measurer.measure(0)
        return self._measurer.take()


@contextmanager
def measuring(config: Config | None = None) -> Iterator[Intervals]:
    """Measure from here on."""
    config = config or Config(bpf_loader="core", meter="estimate")
    with ExitStack() as stack:
        opened = open_measuring(stack, config, read_cpu_info(config.procfs, config.sysfs))
        yield Intervals(opened.start(), opened.meter.zones)


@contextmanager
def punctual(cpu: int) -> Iterator[None]:
    """Have this process run on *cpu* before all others, so that it reads clocks when it means to.

    Only for short work at long intervals: nothing else gets that CPU meanwhile.
    """
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, usable)


def cpu_ns_of(measured: Measured, pid: int) -> int:
    """CPU time of a process."""
    records = measured.records
    return int(np.sum(records["cpu_ns"][records["tgid"] == pid]))


def wall_ns_of(measured: Measured) -> int:
    """Length of the one interval by the clock."""
    (interval,) = measured.intervals
    return interval.usage.end_ns - interval.usage.start_ns
