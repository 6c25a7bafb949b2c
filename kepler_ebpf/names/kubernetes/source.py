"""The thread that keeps a PodIndex up to date, and its state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kepler_ebpf.host.rights import give_up
from kepler_ebpf.model.pods import PodInfo, PodSourceHealth
from kepler_ebpf.names.kubernetes.index import MAX_PODS, NamedContainer, PodIndex, UnknownIds

from .api_errors import ApiError
from .connection import Connection, Request
from .objects import MalformedPodError, parse_pod
from .pacing import Backoff, Sleeper, Wait, wait_of, yield_gil
from .stream import ListBody

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0
_MAX_FRUITLESS = 2


class Journal:
    """Counts what happens to a source, and logs only what changes."""

    def __init__(self, server: str) -> None:
        """Begin for the server named *server* in messages."""
        self._server = server
        self._before: str | None = None
        self._reported: str | None = None
        self._failed_at_s = 0.0
        self.status = PodSourceHealth(up=False, last_sync_s=None, errors={})
        """``up`` means here that the last request was answered."""

    def connected(self) -> None:
        """Note an answer of the server."""
        if self._failed_at_s and self.status.last_sync_s is not None:
            away_s = time.monotonic() - self._failed_at_s
            _log.info("%s: connected again, after %.1f s", self._server, away_s)
        elif not self.status.up:
            _log.info("%s: connected", self._server)
        self._failed_at_s = 0.0
        self._before = self._reported = None
        self.status = replace(self.status, up=True, last_sync_s=time.time())

    def failed(self, error: ApiError) -> None:
        """Count *error*; it is logged when it is the first, or of another kind and lasts.

        A server that starts refuses for a moment what it grants later, and does not know our
        position any more, which is no fault.
        """
        self.count(error.reason)
        self.status = replace(self.status, up=False)
        self._failed_at_s = self._failed_at_s or time.monotonic()
        if error.reason == "gone":
            _log.info("%s: %s. Asking for all pods again", self._server, error)
            return
        is_first, is_lasting = self._before is None, self._before == error.reason
        self._before = error.reason
        if is_first or (is_lasting and error.reason != self._reported):
            self._reported = error.reason
            _log.warning("%s: %s. Pods known so far are kept; trying again", self._server, error)

    def count(self, reason: str) -> None:
        """Count one error of this kind."""
        errors = self.status.errors
        self.status = replace(self.status, errors={**errors, reason: errors.get(reason, 0) + 1})


@dataclass(frozen=True, slots=True)
class FollowerContext:
    """What a follower works with: the server, the node whose pods it wants, the index it fills."""

    connection: Connection
    index: PodIndex
    journal: Journal
    backoff: Backoff
    node_name: str
    label_names: frozenset[str]

    def parsed(self, item: object) -> tuple[PodInfo, ...]:
        """Return the Pod object *item* as (state,), or () with a count where it is none."""
        try:
            return (parse_pod(item, self.label_names),)
        except MalformedPodError:
            self.journal.count("malformed")
            return ()

    def read_list(self, request: Request) -> tuple[list[PodInfo], Mapping[str, object]]:
        """Return the pods and the metadata of a list. Raises ApiError."""
        pods: list[PodInfo] = []
        with self.connection.get(request) as chunks:
            body = ListBody(chunks)
            for item in body.items():
                if len(pods) < MAX_PODS:
                    pods.extend(self.parsed(item))
                yield_gil()
        return pods, body.metadata


class PodSource:
    """Follows the pods of one node in a thread of its own, so that no reader ever waits for it."""

    def __init__(
        self, step: Callable[[], Wait], parts: FollowerContext, sleeper: Sleeper | None = None
    ) -> None:
        """Be ready; ``start`` begins. *parts* are those of the follower.

        *step* does the follower's next piece of work and returns the pause after it; it raises
        ApiError.
        """
        self._follow = step
        self._parts = parts
        self._sleeper = sleeper or Sleeper()
        self._unknown = UnknownIds()
        self._thread = threading.Thread(target=self._run, name="kepler-pods", daemon=True)

    @property
    def index(self) -> PodIndex:
        """What is known of the node's pods now."""
        return self._parts.index

    @property
    def status(self) -> PodSourceHealth:
        """The state of the source."""
        status = self._parts.journal.status
        return replace(status, up=status.up and self._thread.is_alive())

    def find(self, container_id: str) -> NamedContainer | None:
        """Look a container up; an id not seen before makes a polling source look earlier.

        For the sampling thread alone. It never waits.
        """
        match = self._parts.index.find(container_id)
        if match is None and self._unknown.is_news(container_id):
            self._sleeper.nudge()
        return match

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop. A request that is being sent ends by itself, later."""
        self._sleeper.stop()
        self._parts.connection.interrupt()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        # The token and the certificates are often root's alone.
        give_up(frozenset({"CAP_DAC_READ_SEARCH"}))
        nudged = is_second_look = False
        fruitless = 0
        while not self._sleeper.is_stopped():
            version = self.index.version
            wait = pause = self._step()
            if self._sleeper.is_stopped():
                return
            has_found = self.index.version != version
            fruitless = fruitless + 1 if (nudged or is_second_look) and not has_found else 0
            # A kubelet lists a container up to a second after it runs: a nudge is worth two looks.
            # Where both find nothing, whoever makes up ids is to wait as long as the interval.
            is_second_look = nudged and fruitless < _MAX_FRUITLESS
            if is_second_look:
                pause = wait_of(wait.least_s)
            elif fruitless >= _MAX_FRUITLESS:
                fruitless, pause = 0, wait_of(wait.seconds)
            nudged = self._sleeper.sleep(pause)

    def _step(self) -> Wait:
        """Do the next piece of work. Whatever it raises, the thread goes on."""
        try:
            return self._follow()
        except ApiError as error:
            return self._after(error)
        except Exception as error:  # noqa: BLE001 - a bug must not end the naming of pods
            _log.debug("the source of pods failed", exc_info=error)
            return self._after(ApiError("internal", f"{type(error).__name__}: {error}"))

    def _after(self, error: ApiError) -> Wait:
        if self._sleeper.is_stopped():
            # Closing ends a request in the middle, which is no fault.
            return wait_of(0.0)
        self._parts.journal.failed(error)
        self._parts.connection.renew()
        return wait_of(max(self._parts.backoff.next_s(), error.retry_after_s))
