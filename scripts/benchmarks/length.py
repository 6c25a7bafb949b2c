"""How long the long figures take: all of their time, or the part that `--share` gives."""

from __future__ import annotations

_share = 1.0


def shorten(share: float) -> None:
    """Let ``scaled`` return this part."""
    global _share  # noqa: PLW0603  one setting of one run
    _share = share


def scaled(whole: float) -> float:
    """Return the part of *whole* that is wanted, of seconds or of a number."""
    return whole * _share
