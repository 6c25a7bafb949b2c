"""Sends the newest snapshot to a receiver, once in each period, in a thread of its own.

Totals are cumulative: of what could not be sent in time, the next message has everything.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from kepler_ebpf.exporters.otlp import Messages
from kepler_ebpf.exporters.otlp_http import Receiver, RejectedError, UndeliveredError
from kepler_ebpf.host.rights import give_up
from kepler_ebpf.model.snapshot import Snapshot
from kepler_ebpf.model.stats import NO_PUSHES

LOG = logging.getLogger(__name__)

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
"""The pause after the first failure; it doubles up to the second."""

CLOSE_WAIT_S = 3.0
"""How long the last figures may take at the end."""


class Pusher:
    """Pushes snapshots. ``exports`` counts them by result: sent, rejected (in part) or failed."""

    def __init__(
        self,
        receiver: Receiver,
        messages: Messages,
        newest: Callable[[], Snapshot | None],
        interval_s: float,
    ) -> None:
        """Push what *newest* returns every *interval_s*, from one interval from now on."""
        self.exports = dict(NO_PUSHES)
        self._receiver, self._messages = receiver, messages
        self._newest, self._interval_s = newest, interval_s
        self._bad_in_a_row = 0
        self._end_s = 0.0
        self._closing = threading.Event()
        # The interpreter does not wait for a daemon that looks up a name.
        self._thread = threading.Thread(target=self._push_all, name="otlp", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Push once more, for CLOSE_WAIT_S at most."""
        self._closing.set()
        self._thread.join(CLOSE_WAIT_S)

    def _push_all(self) -> None:
        # Files of TLS are read for each request, and may be root's alone.
        files = self._receiver.ca or self._receiver.certificate
        give_up(frozenset({"CAP_DAC_READ_SEARCH"} if files else ()))
        due_s, is_last = time.monotonic(), False
        while not is_last:
            # A push that took longer than a period takes the place of those that it delayed.
            due_s = max(due_s + self._interval_s, time.monotonic())
            is_last = self._closing.wait(due_s - time.monotonic())
            self._end_s = due_s + self._interval_s
            snapshot = self._newest()
            if snapshot is not None:
                self._push(snapshot)

    def _push(self, snapshot: Snapshot) -> None:
        result, fault = "sent", None
        try:
            for message in self._messages.of(snapshot):
                try:
                    self._deliver(message)
                except RejectedError as error:
                    result, fault = "rejected", error
        except Exception as error:  # noqa: BLE001  whatever it is, the next push may succeed
            self._note("failed", error)
        else:
            self._note(result, fault)

    def _deliver(self, message: bytes) -> None:
        """Send a message, again and again until the next push is due."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._receiver.post(message)
            except UndeliveredError as error:
                wait_s = max(error.after_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                is_late = time.monotonic() + wait_s >= self._end_s
                if is_late or self._closing.wait(wait_s):
                    raise
                pause_s = min(pause_s * 2, MAX_PAUSE_S)
            else:
                return

    def _note(self, result: str, error: Exception | None) -> None:
        """Count a push; log the first that fails, and the first that succeeds after that."""
        self.exports[result] += 1
        url, bad = self._receiver.url, self._bad_in_a_row
        self._bad_in_a_row = bad + 1 if error else 0
        if error and not bad:
            LOG.warning("OTLP: %s: %s; it is tried again every period", url, error)
        elif bad and not error:
            LOG.info("OTLP: %s takes figures again, after %d failures", url, bad)
