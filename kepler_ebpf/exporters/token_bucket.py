"""The rate limit of a web configuration, as a token bucket."""

from __future__ import annotations

import math

from kepler_ebpf.exporters.web_config import RateLimit
from kepler_ebpf.model.bounds import REQUESTS


class TokenBucket:
    """Gets a token each interval, and holds ``burst`` of them at most, as at first."""

    def __init__(self, limit: RateLimit | None) -> None:
        """Without a limit there is always a token."""
        self.limit = limit
        self._tokens, self._at_s = 0.0, -math.inf

    def take(self, now_s: float) -> float:
        """Take a token, and return 0; where there is none, return the seconds until one comes."""
        if self.limit is None:
            return 0.0
        gained = (now_s - self._at_s) / self.limit.interval_s
        self._tokens, self._at_s = min(self.limit.burst, self._tokens + gained), now_s
        if self._tokens < 1:
            REQUESTS.reached()
            return (1 - self._tokens) * self.limit.interval_s
        self._tokens -= 1
        return 0.0
