"""Who has a place at the server: rules over the connections there are.

A new client always gets a place. When all are taken, the address with most of them loses the
connection that has waited longest without sending a whole request. Connections that sent one, whose
answers take time, have at most half of an address's places, so probes always get through. Streams
have places of their own, and a new one is refused where all are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus

from kepler_ebpf.exporters.connection import Connection, problem

MAX_CONNECTIONS = 128
MAX_OF_ONE_ADDRESS = 32
"""Connections of all clients, and of one. The whole is also at most a part of our open files."""

MAX_STREAMS = 16
MAX_STREAMS_OF_ONE_ADDRESS = 8
"""Streams of all clients, and of one, beside the connections."""

NO_STREAM_PLACE = problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too many streams are open; read /api/v1/snapshot instead",
    **{"Retry-After": "10"},
)


class Places:
    """The rules for *most* connections that are no streams."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_streams = min(MAX_STREAMS, most)

    def taken_for(self, host: str, connections: Iterable[Connection]) -> Connection | None:
        """Return the connection that a new one of *host* takes the place of, None for none."""
        ordinary = [each for each in connections if each.channel is None]
        hosts = Counter(each.host for each in ordinary)
        if hosts[host] >= min(MAX_OF_ONE_ADDRESS, self._most):
            return _longest_waiting(host, ordinary)
        return self.dispensable(ordinary) if len(ordinary) >= self._most else None

    def dispensable(self, connections: Iterable[Connection]) -> Connection | None:
        """Return the connection that goes first where there is no room; None for streams alone."""
        ordinary = [each for each in connections if each.channel is None]
        hosts = Counter(each.host for each in ordinary).most_common(1)
        return _longest_waiting(hosts[0][0], ordinary) if hosts else None

    def has_stream_place(self, host: str, connections: Iterable[Connection]) -> bool:
        """Whether another stream of *host* can begin."""
        hosts = [each.host for each in connections if each.channel is not None]
        most = min(MAX_STREAMS_OF_ONE_ADDRESS, self._most_streams)
        return len(hosts) < self._most_streams and hosts.count(host) < most


def _longest_waiting(host: str, connections: Iterable[Connection]) -> Connection:
    """Return the oldest of *host*: without a whole request, if they have half of its places."""
    same = [each for each in connections if each.host == host]
    with_request = [each for each in same if each.has_request]
    others = [each for each in same if not each.has_request]
    pool = with_request if len(with_request) > len(others) else others
    return min(pool, key=lambda each: each.began_s)
