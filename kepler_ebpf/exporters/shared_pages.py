"""Rendered pages, made in a thread of their own and shared by all who read the same.

A flood of scrapes renders a page no more often than a snapshot is made, and a flood of different
queries takes half of one CPU at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from kepler_ebpf.exporters.page import Page
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.model.snapshot import Snapshot

LOG = logging.getLogger(__name__)

KEEP_S = 1.0
"""A page is kept no longer than this: its ages are true, and it is not held between scrapes."""

MAX_KEPT = 4
"""Pages kept of one snapshot: both formats, both with and without compression."""

MAX_WANTED = 32
"""Different pages of some names that wait to be made; clients of others are cut."""

REST = 1.0
"""Pause after a page of some names, in times of the CPU that it took; whole pages do not wait."""

Reply = Callable[[Page | None], None]


class Wanted(Protocol):
    """What tells two pages of one snapshot apart: a value with a hash."""

    @property
    def is_whole(self) -> bool:
        """Whether it is one of the few pages that most readers want."""


V = TypeVar("V", bound=Wanted)


class SharedPages(Generic[V]):
    """Makes pages for whoever wants one; nobody waits in ``request``."""

    def __init__(
        self,
        render: Callable[[Snapshot | None, V], Page],
        latest: Callable[[], Snapshot | None],
        refresh: Callable[[], None],
    ) -> None:
        """Render the *latest* snapshot by *render*, after *refresh*, which may wait for a newer."""
        self._render = render
        self._latest = latest
        self._refresh = refresh
        self._wanted: dict[V, list[Reply]] = {}
        self._closing = False
        self._changed = threading.Condition()
        self._snapshot: Snapshot | None = None
        self._kept: dict[V, Page] = {}
        self._kept_until_s = self._rest_until_s = 0.0
        self._thread = threading.Thread(target=self._run, name="pages", daemon=True)
        self._thread.start()

    def request(self, variant: V, reply: Reply) -> None:
        """Call *reply* with a page, in another thread.

        With None after a fault of ours, or at once where too many others are wanted.
        """
        with self._changed:
            if variant in self._wanted or variant.is_whole or len(self._wanted) < MAX_WANTED:
                self._wanted.setdefault(variant, []).append(reply)
                self._changed.notify()
                return
        reply(None)

    def close(self) -> None:
        """Wait for the page that is being made; nothing is replied or refreshed after this."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        give_up()
        while job := self._next():
            before_s = time.thread_time()
            self._serve(*job)
            if not job[0].is_whole:
                rest_s = REST * (time.thread_time() - before_s)
                self._rest_until_s = time.monotonic() + rest_s
            del job  # While this thread waits, it holds neither clients nor pages.

    def _serve(self, variant: V, replies: list[Reply]) -> None:
        page = None
        try:
            page = self._made(variant)
        except Exception:
            LOG.exception("A page could not be made")
        for reply in replies:
            reply(page)

    def _next(self) -> tuple[V, list[Reply]] | None:
        """Wait for who wants a page; whole pages go first, since they are what Prometheus reads."""
        with self._changed:
            while not self._has_work():
                self._changed.wait(self._wait_s())
                if time.monotonic() >= self._kept_until_s:
                    self._kept, self._snapshot = {}, None
            if self._closing:
                return None
            variant = min(self._wanted, key=lambda each: not each.is_whole)
            return variant, self._wanted.pop(variant)

    def _has_work(self) -> bool:
        if self._closing or any(variant.is_whole for variant in self._wanted):
            return True
        return bool(self._wanted) and time.monotonic() >= self._rest_until_s

    def _wait_s(self) -> float | None:
        """Return the time to the end of the pause, or to where no page is kept; None for none."""
        if self._wanted:
            return max(0.0, self._rest_until_s - time.monotonic())
        return max(0.0, self._kept_until_s - time.monotonic()) if self._kept else None

    def _made(self, variant: V) -> Page:
        self._refresh()
        snapshot, now_s = self._latest(), time.monotonic()
        if snapshot is not self._snapshot or now_s >= self._kept_until_s:
            self._snapshot, self._kept, self._kept_until_s = snapshot, {}, now_s + KEEP_S
        if variant in self._kept:
            return self._kept[variant]
        if len(self._kept) >= MAX_KEPT:
            del self._kept[max(self._kept, key=lambda kept: not kept.is_whole)]
        page = self._kept[variant] = self._render(snapshot, variant)
        return page
