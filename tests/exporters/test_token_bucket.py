"""The rate limit's arithmetic, on a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.exporters.token_bucket import TokenBucket
from kepler_ebpf.exporters.web_config import RateLimit

QUARTERS = 4
"""Time goes in quarters of an interval, which floats hold without rounding."""


@given(st.integers(1, 5), st.lists(st.integers(0, 30), max_size=40), st.sampled_from([0.5, 1, 64]))
def test_bucket_gains_a_token_each_interval(
    burst: int, pauses: list[int], interval_s: float
) -> None:
    """Counted quarter by quarter, the same requests are answered; who waits as told is next."""
    bucket, quarters, now_s = TokenBucket(RateLimit(interval_s, burst)), burst * QUARTERS, 1e6
    for pause in pauses:
        for _ in range(pause):
            now_s += interval_s / QUARTERS
            quarters = min(quarters + 1, burst * QUARTERS)
        wait_s = bucket.take(now_s)
        if quarters >= QUARTERS:
            quarters -= QUARTERS
            assert wait_s == 0
        else:
            assert wait_s == (QUARTERS - quarters) * interval_s / QUARTERS
