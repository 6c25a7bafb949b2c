"""Moments as people write them."""

import time
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.config.moment import parse_moment

NOW = datetime(2026, 11, 26, 14, 3, 20)  # noqa: DTZ001 - the host's own clock


@pytest.mark.parametrize(
    ("text", "before_s"),
    [
        ("now", 0),
        ("10m ago", 600),
        ("10m", 600),
        ("-90s", 90),
        ("+5s", -5),
        ("1h30m ago", 5400),
        ("2 hours, 5 minutes ago", 7500),
        ("1.5 Days ago", 129600),
    ],
)
def test_spans(text, before_s):
    """A span is so long ago, and with a + so much later."""
    assert parse_moment(text, 1e9) == 1e9 - before_s


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("14:03", "2026-11-26 14:03:00"),
        ("9:05", "2026-11-26 09:05:00"),
        ("14:04", "2026-11-25 14:04:00"),
        ("today", "2026-11-26 00:00:00"),
        ("yesterday 23:59:59", "2026-11-25 23:59:59"),
        ("y", "2026-11-25 00:00:00"),
        ("yy 08:00", "2026-11-24 08:00:00"),
        ("2026-01-02", "2026-01-02 00:00:00"),
        ("2026-01-02 03:04", "2026-01-02 03:04:00"),
        ("2026-01-02T03:04:05", "2026-01-02 03:04:05"),
    ],
)
def test_calendar(text, wanted):
    """Times of a day are the last ones there were; days begin at midnight, on this host's clock."""
    found = datetime.fromtimestamp(parse_moment(text, NOW.timestamp()))  # noqa: DTZ006
    assert str(found) == wanted


def test_absolute():
    """Unix times, and times of a named zone, do not depend on the host."""
    assert parse_moment("@1790000000.5", 0.0) == 1790000000.5
    assert parse_moment("1790000000", 0.0) == 1790000000
    assert parse_moment("2026-01-02T03:04:05+01:00", 0.0) == 1767319445


@given(st.text(max_size=30) | st.from_regex(r"[-+@y]*[0-9: .]{0,30}(ago|m|d)?", fullmatch=True))
def test_any_text(text):
    """Every text is a time or is refused."""
    with suppress(ValueError):
        assert isinstance(parse_moment(text, time.time()), float)


def test_what_is_no_time_is_refused_with_examples():
    """The message is what is allowed."""
    with pytest.raises(ValueError, match="a time such as 10m ago"):
        parse_moment("moon", 1e9)
