"""Lines of `events`, for people and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from kepler_ebpf.model.energy import NS_PER_S, UJ_PER_J, primary_kind
from kepler_ebpf.stat.lives import Event

Line = Callable[[Event, str], str]
"""Returns the line of an event; the second argument is the id of its container, "" for none."""

SHORT_ID = 12


def widest(kinds: tuple[str, ...]) -> int:
    """Return the index of the kind of zone that speaks for a process."""
    return kinds.index(primary_kind(kinds))


def header(kinds: tuple[str, ...], *, is_estimate: bool) -> str:
    """Return the line above those for people."""
    joules = f"{kinds[widest(kinds)]} {'~J' if is_estimate else 'J'}"
    return _row("time", "event", "pid", "ppid", joules, "CPU s", "≤ life s", "program")


def _row(*cells: object) -> str:
    return "{:12} {:5} {:>7} {:>7} {:>12} {:>8} {:>8} {}".format(*cells)


def text_line(kinds: tuple[str, ...], began_ns: int) -> Line:
    """Return what writes lines for people; what was used before *began_ns* is not known."""
    column = widest(kinds)

    def line(event: Event, container: str) -> str:
        life, now_s = event.life, time.time()
        at_s = now_s - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - event.at_ns) / NS_PER_S
        clock = time.strftime("%H:%M:%S", time.localtime(at_s)) + f".{int(at_s % 1 * 1000):03}"
        figures = ["", "", ""]
        if event.kind == "end":
            since = "" if life.key[1] >= began_ns else ">"
            joules = f"{since}{life.energy_uj[column] / UJ_PER_J:.6f}"
            figures = [joules, f"{life.cpu_ns / NS_PER_S:.4f}", f"{event.lifetime_s:.3f}"]
        words = [life.comm, event.exe, *event.arguments]
        words += [f"[{container.rpartition('/')[2][:SHORT_ID]}]"] if container else []
        program = _printable(" ".join(filter(None, words)))
        return _row(clock, event.kind, life.key[0], life.parent, *figures, program)

    return line


def json_line(kinds: tuple[str, ...], began_ns: int, *, is_estimate: bool) -> Line:
    """Return what writes JSON objects."""

    def line(event: Event, container: str) -> str:
        life = event.life
        record: dict[str, object] = {
            "event": event.kind,
            "boot_time_s": event.at_ns / NS_PER_S,
            "pid": life.key[0],
            "ppid": life.parent,
            "comm": life.comm,
            "exe": event.exe,
            "container_id": container,
        }
        if event.arguments:
            record["arguments"] = event.arguments
        if event.kind == "end":
            joules = (life.energy_uj / UJ_PER_J).tolist()
            record |= {
                "joules": dict(zip(kinds, joules, strict=True)),
                "estimate": is_estimate,
                "cpu_s": life.cpu_ns / NS_PER_S,
                "lifetime_s": event.lifetime_s,
                "whole": life.key[1] >= began_ns,
            }
        return json.dumps(record)

    return line


def _printable(text: str) -> str:
    """Return *text* without what moves a terminal: whoever starts a process chooses its name."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
