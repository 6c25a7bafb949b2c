"""The socket of jobs: a thread that lets callers have their own jobs measured, and nothing else.

Each connection is one job, which ends with it. The caller is who the kernel says it is; nothing
that a caller sends names another process.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from kepler_ebpf.errors import KeplerError, SetupError
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.host.unix_socket import Peer, peer_of
from kepler_ebpf.jobs.accounts import Accounts, Job, State
from kepler_ebpf.jobs.peers import Marker, Process, identify
from kepler_ebpf.jobs.protocol import MAX_LINE_BYTES, Begin, encode, failure, request, shown
from kepler_ebpf.stat.tally import run_of

LOG = logging.getLogger(__name__)

MAX_CALLERS, MAX_OF_ONE_USER = 64, 16
"""Connections of all users, and of one."""

ASK_S = 5.0
"""Time for a caller's first line."""

ACCEPT_STEP_S = 0.005
"""Between two new connections: to connect in a loop must not keep us busy."""

NICENESS = 10


@dataclass(slots=True, eq=False)
class Caller:
    """A connection."""

    stream: socket.socket
    peer: Peer
    deadline_s: float
    received: bytes = b""
    process: Process | None = None
    job: Job | None = None
    lost: int = 0
    has_answer: bool = False


class JobServer:
    """Serves on a listening socket until closed."""

    def __init__(
        self, listener: socket.socket, marker: Marker, procfs: str, keep: frozenset[str]
    ) -> None:
        """Take over *listener*; ``start`` begins. Marks need the capabilities *keep*."""
        self._listener, self._marker, self._procfs, self._keep = listener, marker, procfs, keep
        self._selector = selectors.DefaultSelector()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._event, selectors.EVENT_READ)
        self._callers: list[Caller] = []
        self._accept_s = time.monotonic()
        self._stopping = False
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def turned(self) -> None:
        """Look at the jobs again; for the loop's thread."""
        os.eventfd_write(self._event, 1)

    def start(self, accounts: Accounts) -> None:
        """Serve jobs of *accounts*."""
        self._accounts = accounts
        self._thread.start()

    def close(self) -> None:
        """End all jobs."""
        self._stopping = True
        self.turned()
        if self._thread.is_alive():
            self._thread.join()
        for caller in self._callers:
            caller.stream.close()
        self._listener.close()
        self._selector.close()
        os.close(self._event)

    def _run(self) -> None:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        give_up(self._keep)
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                LOG.exception("The socket of jobs failed once, and goes on")
                time.sleep(ASK_S / 10)

    def _turn(self) -> None:
        self._watch_listener()
        for key, _ in self._selector.select(self._wait_s()):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Caller):
                self._attempt(key.data, self._read)
            else:
                os.eventfd_read(self._event)
                self._accounts.forget_marks(self._marker.live)
        now_s = time.monotonic()
        for caller in tuple(self._callers):
            if caller.job:
                self._attempt(caller, self._answer)
            elif caller.deadline_s <= now_s:
                self._drop(caller)
        if self._accounts.wait_s() == 0.0:
            self._accounts.ask()

    def _wait_s(self) -> float | None:
        now_s = time.monotonic()
        waits = [caller.deadline_s - now_s for caller in self._callers if not caller.job]
        if self._accept_s > now_s:
            waits.append(self._accept_s - now_s)
        if (turn_s := self._accounts.wait_s()) is not None:
            waits.append(turn_s)
        return max(0.0, min(waits)) if waits else None

    # --- connections

    def _watch_listener(self) -> None:
        watched = self._listener in self._selector.get_map()
        may = self._accept_s <= time.monotonic()
        if may and not watched:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif watched and not may:
            self._selector.unregister(self._listener)

    def _accept(self) -> None:
        self._accept_s = time.monotonic() + ACCEPT_STEP_S
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        stream.setblocking(False)
        caller = Caller(stream, peer_of(stream), time.monotonic() + ASK_S)
        self._callers.append(caller)
        self._selector.register(stream, selectors.EVENT_READ, caller)
        self._attempt(caller, self._admit)

    def _admit(self, caller: Caller) -> None:
        users = Counter(each.peer.uid for each in self._callers)
        if users[caller.peer.uid] > MAX_OF_ONE_USER or len(self._callers) > MAX_CALLERS:
            raise SetupError("there are too many jobs at once", "try again when some have ended")
        caller.process = identify(caller.peer, self._procfs)

    def _attempt(self, caller: Caller, step: Callable[[Caller], None]) -> None:
        """Do *step*; an error is the caller's answer, and its end."""
        if caller not in self._callers:
            return
        try:
            step(caller)
        except KeplerError as error:
            self._send(caller, failure(error))
            self._drop(caller)
        except OSError:
            self._drop(caller)

    def _read(self, caller: Caller) -> None:
        received = caller.stream.recv(MAX_LINE_BYTES)
        caller.received += received
        line, newline, rest = caller.received.partition(b"\n")
        if newline or len(line) >= MAX_LINE_BYTES:
            caller.received = rest
            asked = request(line)
            if asked:
                self._begin(caller, asked)
            elif caller.job and caller.job.state is State.OPEN:
                self._accounts.end(caller.job)
            else:
                request(b"")
        elif not received:
            self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        if caller not in self._callers:
            return
        self._callers.remove(caller)
        self._selector.unregister(caller.stream)
        caller.stream.close()
        if caller.job:
            self._accounts.drop(caller.job)
            if self._accounts.are_none:
                self._marker.clear()
            elif caller.job.children:
                having = self._accounts.having
                self._marker.unmark(caller.job.process, lambda mark: bool(having(mark)))

    def _send(self, caller: Caller, message: dict[str, object]) -> None:
        """Send a line, which fits in the buffer of a caller that reads."""
        with suppress(OSError):
            caller.stream.send(encode(message))

    # --- jobs

    def _begin(self, caller: Caller, asked: Begin) -> None:
        if caller.job or caller.process is None:
            raise SetupError("a connection has one job", "connect again for the next")
        if identify(caller.peer, self._procfs) != caller.process:
            raise SetupError(f"process {caller.peer.pid} has ended", "connect from one that runs")
        if asked.thread is not None:
            self._marker.require_thread(caller.process, asked.thread)
        job = Job(
            caller.process,
            asked.thread,
            children=asked.children,
            only_children=asked.scope == "command",
        )
        caller.job, caller.lost = job, self._marker.lost
        self._accounts.add(job)
        if job.children:
            self._mark(job)

    def _mark(self, job: Job) -> None:
        """Mark the threads of a new job's process anew.

        What they start is in the job, and in each that had them: of this process, or of one that
        has started it.
        """
        for thread, before, mark in self._marker.mark(job.process):
            for each in self._accounts.having(before):
                each.ids.add(mark)
            if job.thread in {None, thread}:
                job.ids.add(mark)

    def _answer(self, caller: Caller) -> None:
        """Answer where the job has come to the state that was asked for."""
        job, meter = caller.job, self._accounts.meter
        if job is None:
            return
        if job.state is State.OPEN and not caller.has_answer:
            caller.has_answer = True
            self._send(caller, {"meter": meter.stats.name, "estimate": meter.stats.is_estimate})
        elif job.state is State.ENDED:
            self._send(caller, self._result(caller, job))
            self._drop(caller)

    def _result(self, caller: Caller, job: Job) -> dict[str, object]:
        span, meter = job.span, self._accounts.meter
        if span is None:
            raise SetupError("no interval of the job could be read", "try again")
        if job.before:
            span.power_w = span.power_w.clip(min=job.before.power_w)
        run = run_of(span, meter.zones, meter.stats, span.length_s)
        fields = shown(run, is_root=caller.peer.uid == 0)
        running = self._marker.running(job.ids, job.thread) if job.only_children else 0
        fields |= {"tasks": job.tasks, "running": running}
        return {"run": fields, "lost_children": self._marker.lost - caller.lost}
