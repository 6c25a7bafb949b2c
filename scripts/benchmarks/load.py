"""The loads, run as programs of their own: `load.py KIND ARGUMENT...`.

A load says ``ready``, waits for a line on stdin (meanwhile it can be moved into a cgroup), works,
and in the end says in JSON what it and its children have used since that line. Endless loads work
until SIGTERM. Uses the standard library only, so that it starts at once.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

DUTY_PERIOD_S = 0.02
SLEEP_COMMAND = "/bin/sleep"
SHORT_COMMAND = "/bin/true"
LONG_S = 900
STAMP = struct.Struct("q")


class Ended(Exception):  # noqa: N818 - an end, not an error
    """SIGTERM came."""


def spin(seconds: float) -> None:
    """Use a CPU for so long, 0 for ever."""
    end_s = time.monotonic() + (seconds or float("inf"))
    while time.monotonic() < end_s:
        pass


def hog(path: str) -> None:
    """Use a CPU for ever, and keep the monotonic clock of this moment in a file of eight bytes."""
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), STAMP.size) as stamp:
        while True:
            STAMP.pack_into(stamp, 0, time.monotonic_ns())


def duty(percent: float) -> None:
    """Use that part of a CPU in every period, by the CPU clock, for ever."""
    due_s, used_s = time.monotonic(), time.process_time()
    while True:
        due_s += DUTY_PERIOD_S
        used_s += DUTY_PERIOD_S * percent / 100
        while time.process_time() < used_s:
            pass
        time.sleep(max(0.0, due_s - time.monotonic()))


def children(cpu_ms: float, seconds: float) -> None:
    """Have one child after the other use so much CPU time and end."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pid = os.fork()
        if pid == 0:
            while time.process_time() * 1000 < cpu_ms:
                pass
            os._exit(0)
        os.wait4(pid, 0)


def commands(count: float) -> None:
    """Run so many short commands one after the other, 0 for ever."""
    left = count or float("inf")
    while left > 0:
        os.waitpid(os.posix_spawn(SHORT_COMMAND, [SHORT_COMMAND], {}), 0)
        left -= 1


def starts(rate: float, life_s: float) -> None:
    """Start so many commands a second that live so long each, for ever."""
    command = [SLEEP_COMMAND, str(life_s)] if life_s else [SHORT_COMMAND]
    due_s = time.monotonic()
    while True:
        due_s += 1 / rate
        os.posix_spawn(command[0], command, {})
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(max(0.0, due_s - time.monotonic()))


def sleepers(count: float) -> None:
    """Start so many processes that sleep, say so, and end them in the end."""
    command = [SLEEP_COMMAND, str(LONG_S)]
    _keep(count, lambda _: os.posix_spawn(SLEEP_COMMAND, command, {}))


def wakers(count: float, period_s: float) -> None:
    """Start so many processes that wake once in each period, at even distances from each other."""
    gc.freeze()  # a child that collects would copy the pages it shares with this process
    began_s = time.monotonic()
    _keep(count, lambda number: _fork_waker(began_s + period_s * number / count, period_s))


def _fork_waker(due_s: float, period_s: float) -> int:
    pid = os.fork()
    while pid == 0:
        due_s += period_s
        time.sleep(max(0.0, due_s - time.monotonic()))
    return pid


def _keep(count: float, start: Callable[[int], int]) -> None:
    """Start so many processes, say so, and end them in the end."""
    started: list[int] = []
    try:
        while len(started) < count:
            started.append(start(len(started)))
        _say("started")
        while True:
            signal.pause()
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        for pid in started:
            os.waitpid(pid, 0)


KINDS: dict[str, Callable[..., None]] = {
    each.__name__: each for each in (spin, hog, duty, children, commands, starts, sleepers, wakers)
}


def main() -> None:
    """Do what the arguments say."""
    kind, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end)
    _say("ready")
    sys.stdin.readline()
    before_s, began_s = used_s(), time.monotonic()
    with suppress(Ended):
        KINDS[kind](*map(_value, arguments))
    _say(json.dumps({"cpu_s": used_s() - before_s, "wall_s": time.monotonic() - began_s}))
    # At once: the interpreter's own end would be CPU time that is not in the figure.
    os._exit(0)


def used_s() -> float:
    """CPU time of this process and of the children it has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _value(text: str) -> float | str:
    return float(text) if text[0].isdigit() else text


def _say(text: str) -> None:
    print(text, flush=True)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Ended


if __name__ == "__main__":
    main()
