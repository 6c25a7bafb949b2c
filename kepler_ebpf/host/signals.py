"""SIGINT and SIGTERM end the program in every state.

A handler of Python's runs in the main thread, between two steps of it: never while that is inside
the kernel. So a thread of its own waits for the signals.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from kepler_ebpf.host.rights import give_up

LOG = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE_S = 10.0
"""What was stopped and has not ended after this is ended without it."""

LOG_S = 1.0
"""The log has so long to be written: whoever reads it may be what does not go on."""


def end_on_signals(stop: Callable[[], None], grace_s: float = GRACE_S) -> None:
    """Call *stop* at the first signal from now on; the program ends *grace_s* later at the latest.

    For the main thread, before it starts others: what they run is not interrupted.
    """

    def wait() -> None:
        give_up()
        number = signal.sigwait(SIGNALS)
        stop()
        time.sleep(grace_s)
        _end_at_once(f"{signal.Signals(number).name} did not stop the program", grace_s)

    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        # A thread of a library that was started before can take them still.
        signal.signal(number, lambda *_: stop())
    threading.Thread(target=wait, name="signals", daemon=True).start()


def _end_at_once(problem: str, grace_s: float) -> None:
    message = ("%s within %g s: it ends at once", problem, grace_s)
    log = threading.Thread(target=LOG.error, args=message, daemon=True)
    log.start()
    log.join(LOG_S)
    os._exit(1)
