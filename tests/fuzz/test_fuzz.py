"""Whatever others write, reading it raises nothing but our own errors.

`python tests/fuzz/try_many.py --inputs 1000000` tries more.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS

INPUTS = 150


@pytest.mark.parametrize("target", TARGETS)
def test_any_input_is_read_or_refused(target: str) -> None:
    """No exception but our own, the laws of the target hold."""

    @settings(max_examples=INPUTS)
    @given(st.integers(0, 2**32))
    def try_one(seed: int) -> None:
        TARGETS[target](Random(seed))  # noqa: S311  no secret

    try_one()
