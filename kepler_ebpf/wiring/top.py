"""What `kepler-ebpf top` shows, and where: `wiring.run` has the account that it shows."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from kepler_ebpf.config.options import Config
from kepler_ebpf.errors import ConfigError
from kepler_ebpf.exporters.frame import Frame
from kepler_ebpf.exporters.printer import Printer
from kepler_ebpf.exporters.query import Query
from kepler_ebpf.exporters.reduced import frame_of
from kepler_ebpf.host.output import standard_output
from kepler_ebpf.host.signals import end_on_signals
from kepler_ebpf.loop.publisher import Publisher
from kepler_ebpf.model.levels import LEVELS
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.top import records, text
from kepler_ebpf.top.live import Live
from kepler_ebpf.top.terminal import Terminal

FORMS: dict[str, Callable[[Frame, Query], str]] = {
    "text": text.table,
    "json": records.json_line,
    "csv": records.csv_lines,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of the verb, see ``top.flags``. Raises ConfigError where they contradict."""

    once: bool
    batch: bool
    count: int | None
    form: str | None
    view: str
    sort: str
    top: int | None
    filter: str
    zone: str

    def __post_init__(self) -> None:
        if self.once and (self.batch or self.count):
            raise ConfigError("top: --once prints one interval", "leave out --batch and --count")

    @property
    def is_live(self) -> bool:
        """Whether a screen is wanted, where there is one."""
        return not (self.once or self.batch or self.count or self.form)

    @property
    def query(self) -> Query:
        """Which rows are shown."""
        return Query(self.view, self.sort, self.zone, self.filter, top=self.top)


def listing_all(config: Config) -> Config:
    """Return *config* with each level, and what has ended for no longer than it is shown."""
    return replace(
        config,
        metrics_levels=frozenset(LEVELS),
        terminated_retention_s=config.interval_s,
        min_terminated_energy_j=0.0,
        process_top_n=0,
        process_min_j=0.0,
    )


def start_view(
    stack: ExitStack, asked: Asked, publisher: Publisher, stop: Callable[[], None]
) -> None:
    """Show the snapshots of *publisher* until *stack* ends it; *stop* ends the loop."""
    terminal = _terminal(stack) if asked.is_live else None
    if terminal:
        # Whatever ends the program, the terminal is given back.
        stack.callback(terminal[1].restore)

        def stop_screen() -> None:
            terminal[1].restore()
            stop()

        end_on_signals(stop_screen)
        live = Live(*terminal, asked.query, stop)
        stack.callback(live.close)
        publisher.subscribe(live.take)
        return
    end_on_signals(stop)
    printer = Printer(standard_output(), _Batch(asked, stop).render, stop)
    stack.callback(printer.close)
    publisher.subscribe(printer.take)


def _terminal(stack: ExitStack) -> tuple[int, Terminal] | None:
    """Return where keys come from, and the screen; None where lines are all that can be shown."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in {"", "dumb"}:
        return None
    with suppress(OSError, termios.error):
        keys = sys.stdin.fileno()
        if not sys.stdin.isatty():
            keys = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
            stack.callback(os.close, keys)
        return keys, Terminal(keys, sys.stdout.fileno(), sys.stdout.encoding)
    return None


class _Batch:
    """Renders each interval, and stops after the wanted number."""

    def __init__(self, asked: Asked, stop: Callable[[], None]) -> None:
        form = asked.form or ("json" if asked.batch else "text")
        self._render, self._query, self._stop = FORMS[form], asked.query, stop
        self._left = 1 if asked.once else asked.count
        self._header = records.CSV_HEADER if form == "csv" else ""

    def render(self, snapshot: Snapshot) -> str:
        """Return the text of an interval, without the end of its last line."""
        header, self._header = self._header, ""
        shown = header + self._render(frame_of(snapshot), self._query)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._stop()
        return shown.removesuffix("\n")
