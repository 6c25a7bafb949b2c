"""/api/v1/stream: each interval as a server-sent event, made once for all who want the same.

While nobody reads, no interval is accounted for alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from http import HTTPStatus
from typing import Any

from kepler_ebpf.exporters.connection import Answer, problem
from kepler_ebpf.exporters.page import Page
from kepler_ebpf.model.snapshot import Snapshot

EVENT_STREAM = "text/event-stream; charset=utf-8"
NOT_YET = problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "no interval has been measured yet",
    **{"Retry-After": "1"},
)
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No proxy holds events back."""

SKIPPED = b"event: skipped\ndata: 1\n\n"
"""In place of an interval that could not be shown: too many wanted other pages, or a fault."""

RETRY_MS = 2000
"""Pause of a browser before it opens a stream again."""

Take = Callable[[Snapshot], None]


class Streams:
    """The streams that are open, each with what it wants: its channel."""

    def __init__(
        self,
        subscribe: Callable[[Take], None],
        unsubscribe: Callable[[Take], None],
        request: Callable[[Any, Callable[[Page | None], None]], None],
        push: Callable[[Hashable, bytes], None],
    ) -> None:
        """Have pages made by *request* after each interval, and *push* them.

        While there are streams, what *subscribe* got is called with each interval.
        """
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self._request, self._push = request, push
        self._channels: frozenset[Hashable] = frozenset()
        self._waiting: set[Hashable] = set()

    def watch(self, channels: frozenset[Hashable]) -> None:
        """Take note of the channels that have readers now."""
        before, self._channels = self._channels, channels
        if channels and not before:
            self._subscribe(self._take)
        elif before and not channels:
            self._unsubscribe(self._take)

    @staticmethod
    def answer(channel: Hashable, page: Page) -> Answer:
        """Return the answer to who opens a stream."""
        first = b"retry: %d\n" % RETRY_MS + _event(page)
        return Answer(first, EVENT_STREAM, headers=HEADERS, channel=channel)

    def _take(self, _: Snapshot) -> None:
        for channel in self._channels:
            if channel in self._waiting:  # Of two intervals the page shows one.
                self._push(channel, SKIPPED)
                continue
            self._waiting.add(channel)
            self._request(channel, partial(self._made, channel))

    def _made(self, channel: Hashable, page: Page | None) -> None:
        self._waiting.discard(channel)
        self._push(channel, _event(page) if page and page.body else SKIPPED)


def _event(page: Page) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (page.tag.encode(), page.body.rstrip())
