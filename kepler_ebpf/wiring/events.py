"""`kepler-ebpf events`: programs that are executed and processes that end, with their joules."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import click
import numpy as np

from kepler_ebpf.attribution import attribute, zone_kinds
from kepler_ebpf.config.options import Config
from kepler_ebpf.host.output import has_reader
from kepler_ebpf.host.topology import read_cpu_info
from kepler_ebpf.kernel.tracker import CpuTimeTracker
from kepler_ebpf.loop.measurer import Measurer
from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J
from kepler_ebpf.names.cgroups.containers import match_container
from kepler_ebpf.names.cgroups.paths import CgroupPaths
from kepler_ebpf.names.processes.procfs import is_alive, start_ticks
from kepler_ebpf.stat.lines import header, json_line, text_line, widest
from kepler_ebpf.stat.lives import Event, Lives
from kepler_ebpf.stat.stop import Stop
from kepler_ebpf.wiring.measuring import Measuring, open_measuring

MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of `events`, see ``stat.flags``."""

    comm: str | None
    min_joules: float
    arguments: bool
    step: int
    count: int | None
    timeout: float | None
    as_json: bool


def events(config: Config, **flags: object) -> int:
    """Print lines until a signal, the time or the count ends it. Raises KeplerError."""
    asked = Asked(**flags)  # type: ignore[arg-type]
    with ExitStack() as stack:
        cpus = read_cpu_info(config.procfs, config.sysfs)
        watch = Watch(stack, open_measuring(stack, config, cpus), asked)
        watch.print_until(Stop(stack))
    return 0


class Watch:
    """Follows all processes from now on."""

    def __init__(self, stack: ExitStack, measuring: Measuring, asked: Asked) -> None:
        self._asked, self._procfs = asked, measuring.config.procfs
        self._tracker: CpuTimeTracker = measuring.tracker
        self._meter = measuring.meter
        self._measurer: Measurer = measuring.start()
        began_ns, kinds = time.clock_gettime_ns(time.CLOCK_BOOTTIME), zone_kinds(self._meter.zones)
        self._paths = CgroupPaths(measuring.hierarchy)
        stack.callback(self._paths.close)
        self._lives = Lives(np.zeros(len(kinds)), self._is_alive)
        self._widest, self._kinds, self._untracked_ns = widest(kinds), kinds, 0
        is_estimate = self._meter.stats.is_estimate
        self._line = (
            json_line(kinds, began_ns, is_estimate=is_estimate)
            if asked.as_json
            else text_line(kinds, began_ns)
        )

    def print_until(self, stop: Stop) -> None:
        """Print lines, and in the end what was lost."""
        asked, left = self._asked, self._asked.count or sys.maxsize
        until_s = time.monotonic() + (asked.timeout or math.inf)
        if not asked.as_json:
            click.echo(header(self._kinds, is_estimate=self._meter.stats.is_estimate))
        is_over = False
        while left and not is_over:
            if not has_reader(sys.stdout):
                return
            left_s = until_s - time.monotonic()
            is_over = stop.within(max(min(asked.step / MS_PER_S, left_s), 0.0)) or left_s <= 0
            found = self._step()
            if is_over:
                # What ended in this last interval is due with the next.
                found += self._step()
            wanted = [event for event in found if self._is_wanted(event)][:left]
            left -= len(wanted)
            if wanted:
                click.echo("\n".join(self._line(each, self._container(each)) for each in wanted))
        self._print_lost()

    def _step(self) -> list[Event]:
        """End the running interval, and return the events of the one before it."""
        self._measurer.measure_now()
        self._paths.learn(self._tracker.cgroup_events())
        measured = self._measurer.take()
        execs = self._tracker.exec_events.take()
        if not self._asked.arguments:
            execs = [each._replace(arguments=()) for each in execs]
        records = measured.records
        self._untracked_ns += measured.lost_ns + measured.overflow_ns
        return self._lives.add(
            records,
            attribute(measured, self._meter.zones).shares_uj,
            execs,
            self._ends(),
            time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        )

    def _ends(self) -> Iterator[tuple[int, int]]:
        pids, starts_ns = self._tracker.take_ends()
        return zip(pids.tolist(), starts_ns.tolist(), strict=True)

    def _is_wanted(self, event: Event) -> bool:
        asked, life = self._asked, event.life
        used_j = life.energy_uj[self._widest] / UJ_PER_J if event.kind == "end" else 0.0
        named = asked.comm is None or life.comm.encode() == asked.comm.encode()[:15]
        return named and used_j >= asked.min_joules

    def _is_alive(self, key: tuple[int, int]) -> bool:
        return is_alive(key[0], start_ticks(key[1]), self._procfs)

    def _container(self, event: Event) -> str:
        path = self._paths.path(event.life.cgroup_id) if event.life.cgroup_id else None
        match = match_container(path) if path else None
        return match.container_id if match else ""

    def _print_lost(self) -> None:
        stats, meter = self._tracker.stats, self._meter.stats
        lost = {
            "exec_events_lost": stats.exec_events_lost,
            "ends_lost": stats.process_ends_lost,
            "without_room": self._lives.without_room,
            "untracked_s": self._untracked_ns / NS_PER_S,
            "meter": meter.name,
            "estimate": meter.is_estimate,
        }
        if self._asked.as_json:
            click.echo(json.dumps({"event": "lost", **lost}))
            return
        click.echo(
            f"lost: {stats.exec_events_lost} exec events, {stats.process_ends_lost} ends, "
            f"{self._lives.without_room} without room, {lost['untracked_s']:.3f} s of CPU time; "
            f"meter {meter.name}" + (", an estimate" if meter.is_estimate else ""),
            err=True,
        )
