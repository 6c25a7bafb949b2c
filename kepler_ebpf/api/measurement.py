"""The joules of a block, as a context manager and as a decorator; and of repeated calls."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from kepler_ebpf.api.engine import Block, Engine, RemoteEngine
from kepler_ebpf.errors import ConfigError, KeplerError
from kepler_ebpf.stat.result import Run
from kepler_ebpf.stat.statistics import CONFIDENCE, Spread, spread
from kepler_ebpf.stat.text import UNRELIABLE, joules, primary

Scope = Literal["process", "thread"]
SCOPES = ("process", "thread")

Function = TypeVar("Function", bound=Callable[..., Any])


class Measurement:
    """One block; its figures are there when it has ended, and raise KeplerError before."""

    def __init__(
        self,
        engine: Callable[[], Engine | RemoteEngine],
        scope: Scope = "process",
        *,
        children: bool = False,
        each: Callable[[Measurement], object] | None = None,
    ) -> None:
        """Describe the block that *engine* will measure. Raises ConfigError for a wrong *scope*.

        *each* is called with the measurement of each call of a function that is decorated.
        """
        if scope not in SCOPES:
            problem = f"measure: scope {scope!r} is not allowed"
            raise ConfigError(problem, "want process or thread; to decorate: @measure(each=print)")
        self.scope, self.children = scope, children
        self.name = ""
        """The function that was called, where one was decorated."""
        self._open, self._each = engine, each
        self._engine: Engine | RemoteEngine | None = None
        self._block: Block | None = None
        self._run: Run | None = None

    def __enter__(self) -> Self:
        if self._engine is not None:
            raise KeplerError("a measurement has one block", "call measure() for each block")
        self._engine = self._open()
        thread = threading.get_native_id() if self.scope == "thread" else None
        block = Block(thread, self.children)
        self._engine.begin(block)
        self._block = block
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._engine and self._block:
            self._run = self._engine.end(self._block)

    def __call__(self, function: Function) -> Function:
        """Decorate *function*: each call is a block, also one that raises.

        Raises ConfigError for a generator, whose work is done elsewhere, and without *each*.
        """
        name = function.__qualname__
        if self._each is None:
            problem = f"measure: there is no place for what calls of {name} use"
            raise ConfigError(problem, "give one: each=print, or each=LIST.append")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            problem = f"measure cannot decorate {name}: a generator works when others call it"
            raise ConfigError(problem, "put `with measure():` around the loop over it")

        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            with self._call(name):
                return function(*arguments, **named)

        @functools.wraps(function)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            with self._call(name):
                return await function(*arguments, **named)

        decorated: Any = awaited if inspect.iscoroutinefunction(function) else called
        return decorated  # type: ignore[no-any-return]

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        call = Measurement(self._open, self.scope, children=self.children)
        call.name = name
        try:
            with call:
                yield
        finally:
            if call._run and self._each:
                self._each(call)

    # --- figures

    @property
    def run(self) -> Run:
        """All figures, with the parts of the rest."""
        if self._run is not None:
            return self._run
        if self._engine and self._engine.is_closed:
            problem = "the block was begun in another process, before a fork"
            raise KeplerError(problem, "begin a block in this process")
        raise KeplerError("the block has not ended", "read its figures after the block")

    @property
    def joules(self) -> dict[str, float]:
        """Energy of the block by kind of zone. Zones overlap: their sum means nothing."""
        return {kind: zone.joules for kind, zone in self.run.zones.items()}

    @property
    def error_joules(self) -> dict[str, float | None]:
        """Bound of the error of metering by kind of zone, None where not known (estimate)."""
        return {kind: zone.error_joules for kind, zone in self.run.zones.items()}

    @property
    def rest_joules(self) -> dict[str, float | None]:
        """What the zones drew beside the block, idle included; None where it is not told."""
        return {kind: zone.rest_joules for kind, zone in self.run.zones.items()}

    @property
    def cpu_s(self) -> float:
        """CPU time of the block, in seconds."""
        return self.run.cpu_s

    @property
    def wall_s(self) -> float:
        """Length of the block, in seconds."""
        return self.run.wall_s

    @property
    def untracked_s(self) -> float:
        """CPU time of the machine that is not known by task: some of it may be the block's."""
        return self.run.untracked_s

    @property
    def lost_children(self) -> int:
        """Tasks that no mark was left for: they may be children that are not counted."""
        _ = self.run
        return self._block.lost_children if self._block else 0

    @property
    def meter(self) -> str:
        """The name of the meter."""
        return self._meter.meter.name

    @property
    def estimate(self) -> bool:
        """Whether the energy is modelled from CPU time: nothing was measured then."""
        return self._meter.meter.is_estimate

    @property
    def reliable(self) -> bool:
        """Whether the error of metering is known and at most 5 %, in the widest zone.

        False for an estimate, which has no such error. It does not judge the sharing of a zone's
        power by CPU time.
        """
        zone = self.run.zones[primary(self.run)]
        error = zone.error_joules
        return error is not None and zone.joules > 0 and error <= UNRELIABLE * zone.joules

    def __repr__(self) -> str:
        if self._run is None:
            return f"<measurement of a {self.scope}, not ended>"
        name = f"{self.name}: " if self.name else ""
        zones = (
            f"{kind} {joules(zone.joules, zone.error_joules)} J"
            + ("" if zone.error_joules is None else f" ± {joules(zone.error_joules)}")
            for kind, zone in self._run.zones.items()
        )
        kind = " (estimate)" if self.estimate else ""
        return f"{name}{', '.join(zones)}{kind}; CPU {self.cpu_s:.4f} s in {self.wall_s:.4f} s"

    @property
    def _meter(self) -> Engine | RemoteEngine:
        _ = self.run
        return self._engine  # type: ignore[return-value]


@dataclass(frozen=True)
class EnergyPerCall:
    """Blocks of ``number`` calls each. The spread is of the blocks, in joules for each call."""

    number: int
    measurements: tuple[Measurement, ...]

    @property
    def joules(self) -> dict[str, float]:
        """Mean joules of a call by kind of zone."""
        return {kind: each.mean for kind, each in self.spread.items()}

    @property
    def spread(self) -> dict[str, Spread]:
        """Mean, standard deviation and half of the mean's 95 % interval, by kind of zone."""
        return {
            kind: spread([each.joules[kind] / self.number for each in self.measurements])
            for kind in self.measurements[0].joules
        }

    @property
    def cpu_s(self) -> float:
        """Mean CPU time of a call, in seconds."""
        return spread([each.cpu_s / self.number for each in self.measurements]).mean

    @property
    def reliable(self) -> bool:
        """Whether each block is, see ``Measurement.reliable``."""
        return all(each.reliable for each in self.measurements)

    @property
    def estimate(self) -> bool:
        """Whether the energy is modelled from CPU time."""
        return self.measurements[0].estimate

    def __repr__(self) -> str:
        kind = primary(self.measurements[0].run)
        each = self.spread[kind]
        word = ", estimate" if self.estimate else "" if self.reliable else ", not reliable"
        return (
            f"{kind} {each.mean:.4g} J a call, {CONFIDENCE:.0%} within ± {each.half_width:.2g}; "
            f"{len(self.measurements)} x {self.number} calls{word}"
        )
