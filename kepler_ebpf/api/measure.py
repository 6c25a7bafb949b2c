"""``measure`` and ``energyit``, with the engine that a process has one of."""

from __future__ import annotations

import atexit
import os
import textwrap
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from itertools import repeat as times
from typing import Any

from kepler_ebpf.api.engine import LOCK, Engine, Parts, RemoteEngine
from kepler_ebpf.api.measurement import EnergyPerCall, Measurement, Scope
from kepler_ebpf.config.load import load_config
from kepler_ebpf.errors import ConfigError, SetupError
from kepler_ebpf.host.runtime import require_files
from kepler_ebpf.jobs.client import require_socket
from kepler_ebpf.wiring.session import open_session

CONFIG_VARIABLE = "KEPLER_EBPF_CONFIG"
"""Names a configuration file, as it does for the verbs."""

ENOUGH_S = 0.2
"""A block is made so long where the number of calls is not given, as timeit does it."""


def measure(
    scope: Scope = "process",
    *,
    children: bool = False,
    each: Callable[[Measurement], object] | None = None,
) -> Measurement:
    """Return what measures one block by `with`, or each call of a function as its decorator.

    *scope* is this "process" with all its threads, or the calling "thread" alone; *children* adds
    the processes that are started in the block, with all that these start. A decorator calls *each*
    with what a call has used. Raises ConfigError for another scope; beginning the block raises
    KeplerError where this process may not measure.
    """
    return Measurement(shared_engine, scope, children=children, each=each)


def energyit(  # noqa: PLR0913 - as timeit has them
    function: Callable[[], object] | str,
    setup: str = "pass",
    *,
    number: int | None = None,
    repeat: int = 5,
    scope: Scope = "process",
    children: bool = False,
    globals: Mapping[str, Any] | None = None,  # noqa: A002 - as timeit has it
) -> EnergyPerCall:
    """Measure *repeat* blocks of *number* calls of a function, or of a statement after its *setup*.

    Without a *number* the blocks are long enough for a small error of metering. Raises ConfigError
    for a wrong count, KeplerError where this process may not measure.
    """
    for name, count in (("number", number), ("repeat", repeat)):
        if count is not None and count < 1:
            raise ConfigError(f"energyit: {name} {count} is not allowed", "want 1 or more")
    loop = _loop(function, setup, dict(globals or {}))

    def block(count: int) -> Measurement:
        with measure(scope, children=children) as measurement:
            loop(count)
        return measurement

    count = number or 1
    while number is None and (found := block(count)).wall_s < ENOUGH_S:
        count *= 10 if found.wall_s < ENOUGH_S / 10 else 2
    return EnergyPerCall(count, tuple(block(count) for _ in range(repeat)))


def _loop(
    function: Callable[[], object] | str, setup: str, names: dict[str, Any]
) -> Callable[[int], None]:
    if isinstance(function, str):
        body = textwrap.indent(function, "  ")
        # The caller's own code, as in timeit; its names are local to a function, and so fast.
        exec(compile(setup, "<setup>", "exec"), names)  # noqa: S102
        exec(compile(f"def _loop(_calls):\n for _ in _calls:\n{body}", "<energyit>", "exec"), names)  # noqa: S102
        return lambda count: names["_loop"](times(None, count))

    def loop(count: int) -> None:
        for _ in times(None, count):
            function()

    return loop


# --- the engine -------------------------------------------------------------------------------


@cache
def _shared() -> Engine | RemoteEngine:
    require_files()
    config = load_config({}, os.environ.get(CONFIG_VARIABLE)).config
    with ExitStack() as stack:
        try:
            opened = open_session(stack, config)
        except SetupError as refusal:
            return RemoteEngine(require_socket(config.jobs_socket, refusal))
        session, close = opened.session, stack.pop_all().close
        parts = Parts(session.tracker, opened.jobs, session.meter, session.measurer, close)
    return Engine(parts)


def shared_engine() -> Engine | RemoteEngine:
    """Return the engine of this process, opened at the first call. Raises KeplerError."""
    with LOCK:
        return _shared()


def close_engine() -> None:
    """Take the engine down, and with it what it has in the kernel; the next block opens another."""
    with LOCK:
        if _shared.cache_info().currsize:
            engine = _shared()
            _shared.cache_clear()
            engine.close()


def _after_fork() -> None:
    """Let go of the parent's engine: two processes must not end the same intervals."""
    close_engine()
    LOCK.release()


atexit.register(close_engine)
os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_after_fork)
