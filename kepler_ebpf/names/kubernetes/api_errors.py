"""What can go wrong between us and the Kubernetes API, in few and fixed kinds."""

from __future__ import annotations

from kepler_ebpf.errors import ReadError

_REASONS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 410: "gone", 429: "throttled"}


class ApiError(ReadError):
    """A request failed; the source waits and tries again.

    ``reason`` is one of ``reason_of`` or certificate, credentials, internal, malformed, network,
    timeout. ``retry_after_s`` is the server's Retry-After, 0 where there is none.
    """

    def __init__(
        self, reason: str, problem: str, remedy: str = "", *, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(problem, remedy)
        self.reason = reason
        self.retry_after_s = retry_after_s


def reason_of(status: int) -> str:
    """Return the kind of error an HTTP status stands for."""
    return _REASONS.get(status, "server")
