"""Follow this node's pods at the API server: one list, then one watch from where it ended."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping

from .api_errors import ApiError, reason_of
from .connection import Limits, Request
from .index import MAX_PODS
from .objects import mapping, text
from .pacing import Wait, wait_of, yield_gil
from .source import FollowerContext
from .stream import json_lines

_log = logging.getLogger(__name__)

PODS_RIGHT = "a ClusterRole with the verbs list and watch on pods, bound to this account"
CERTIFICATE_REMEDY = (
    "Give the CA that signed it in the kubeconfig (certificate-authority), or check that the "
    "server's address is one of the names in the certificate"
)

_PAGE = 250
_REWATCH_S = 1.0
WATCH_S = (240.0, 480.0)
"""Shortest and longest duration that is asked for of a watch."""
_WATCH_LIMITS = Limits(read_s=120.0, body_s=3600.0)
_SHORT_WATCH_S = 5.0
_START_AFRESH = frozenset({"gone", "malformed", "server", "not_found"})


class ApiServerFollower:
    """List and watch with a field selector on the node's name."""

    def __init__(self, parts: FollowerContext, watch_s: tuple[float, float] = WATCH_S) -> None:
        """Start with nothing known; a watch lasts between the two durations *watch_s*."""
        self._parts = parts
        self._watch_s = watch_s
        self._selector = f"spec.nodeName={parts.node_name}"
        self._position: str | None = None
        self._from_cache = True
        self._node_checked = False

    def step(self) -> Wait:
        """List when there is no position to watch from, else watch until the watch ends."""
        try:
            if self._position is None:
                self._list()
                return wait_of(0.0)
            began_s = time.monotonic()
            came = self._watch(self._position)
        except ApiError as error:
            if error.reason == "gone" and self._position is not None:
                # The server answers again. Only our position is lost.
                self._parts.backoff.reset()
            if error.reason in _START_AFRESH:
                self._position = None
                self._from_cache = error.reason != "gone"
            raise
        if not came and time.monotonic() - began_s < _SHORT_WATCH_S:
            return wait_of(self._parts.backoff.next_s())
        self._parts.backoff.reset()
        return wait_of(_REWATCH_S)

    def _list(self) -> None:
        # From the server's cache; afresh and in one piece where that did not hold.
        query = {"limit": str(_PAGE), "resourceVersion": "0"} if self._from_cache else {}
        pods, metadata = self._parts.read_list(self._request("list", query))
        while token := text(metadata.get("continue")):
            query = {"limit": str(_PAGE), "continue": token}
            page, metadata = self._parts.read_list(self._request("list", query))
            pods += page[: MAX_PODS - len(pods)]
        position = text(metadata.get("resourceVersion"))
        if not position:
            raise ApiError("malformed", "the list of pods carries no resourceVersion")
        self._parts.index.replace(pods)
        self._position = position
        self._from_cache = True
        self._parts.journal.connected()
        if not pods:
            self._check_node()

    def _watch(self, position: str) -> bool:
        """Follow the events after *position* until the server ends it; return whether any came."""
        came = False
        seconds = random.uniform(*self._watch_s)  # noqa: S311 - only a spread
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": position}
        request = self._request("watch", {**query, "timeoutSeconds": f"{seconds:.0f}"})
        try:
            with self._parts.connection.get(request, _WATCH_LIMITS) as chunks:
                self._parts.journal.connected()
                for event in json_lines(chunks):
                    self._take(mapping(event))
                    came = True
                    yield_gil()
        except ApiError as error:
            # Even a quiet node has a bookmark a minute. A server that sends none is dead, or was
            # put back to before our position, and would be silent until it is there again.
            if error.reason != "timeout":
                raise
            self._position = None
        return came

    def _take(self, event: Mapping[str, object]) -> None:
        kind, value = event.get("type"), event.get("object")
        if kind == "ERROR":
            raise _error_event(mapping(value))
        if kind in {"ADDED", "MODIFIED"}:
            for pod in self._parts.parsed(value):
                self._parts.index.apply(pod)
        elif kind == "DELETED":
            self._parts.index.remove(text(_metadata(value).get("uid")))
        elif kind == "BOOKMARK":
            self._parts.index.expire()
        else:
            raise ApiError("malformed", f"the watch sent an event of unknown type {kind!r}")
        self._position = text(_metadata(value).get("resourceVersion")) or self._position
        self._parts.backoff.reset()
        self._parts.journal.connected()

    def _request(self, verb: str, query: dict[str, str]) -> Request:
        return Request(
            "/api/v1/pods",
            {"fieldSelector": self._selector, **query},
            f"{verb} pods cluster-wide ({self._selector})",
            PODS_RIGHT,
        )

    def _check_node(self) -> None:
        """Warn, once, when nothing runs on the node: its name may be wrong."""
        if self._node_checked:
            return
        self._node_checked = True
        name = self._parts.node_name
        request = Request(f"/api/v1/nodes/{name}", {}, f"get node {name}", "get on nodes")
        try:
            with self._parts.connection.get(request):
                return
        except ApiError as error:
            if error.reason == "not_found":
                message = (
                    "the cluster has no node named %s: no pod will be named. Give the name that "
                    "`kubectl get nodes` shows (--kube.node-name)"
                )
            else:
                message = (
                    "the cluster knows no pod on a node named %s: if that is not the name that "
                    "`kubectl get nodes` shows, no pod will be named (--kube.node-name)"
                )
            _log.warning(message, name)


def _metadata(value: object) -> Mapping[str, object]:
    return mapping(mapping(value).get("metadata"))


def _error_event(status: Mapping[str, object]) -> ApiError:
    code = status.get("code")
    reason = reason_of(code if isinstance(code, int) else 0)
    return ApiError(reason, f"the watch was ended: {text(status.get('message')) or code}")
