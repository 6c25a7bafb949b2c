"""The look-up of an address among ranges, against the plain definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.profile.symbols.ranges import Ranges

HIGHEST = 2**64 - 1
SMALL = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda r: (r[0], r[0] + r[1]))
LARGE = st.tuples(st.integers(0, HIGHEST), st.integers(0, HIGHEST)).map(lambda r: (min(r), max(r)))


@given(
    st.lists(st.one_of(SMALL, LARGE), max_size=30),
    st.lists(st.one_of(st.integers(0, 60), st.integers(0, HIGHEST))),
)
def test_the_innermost_range_is_found(pairs: list[tuple[int, int]], wanted: list[int]) -> None:
    """Of the ranges around an address it is one that begins last; none where none is around."""
    starts, ends = (np.array([pair[side] for pair in pairs], np.uint64) for side in (0, 1))
    ranges = Ranges(starts, ends)
    found = ranges.find(np.array(wanted, np.uint64))
    for address, at in zip(wanted, found.tolist(), strict=True):
        around = [start for start, end in pairs if start <= address < end]
        if at < 0:
            assert around == []
        else:
            assert int(ranges.starts[at]) == max(around)
            assert address < int(ranges.ends[at])


@given(st.lists(SMALL, min_size=1, max_size=30), st.integers(0, 29))
def test_ranges_with_one_start(pairs: list[tuple[int, int]], place: int) -> None:
    """They are indexes into what the ranges were made of."""
    starts, ends = (np.array([pair[side] for pair in pairs], np.uint64) for side in (0, 1))
    ranges = Ranges(starts, ends)
    at = place % len(pairs)
    for index in ranges.same_start(at, 8):
        assert pairs[index][0] == ranges.starts[at]
        assert pairs[index][1] >= ranges.ends[at]


def test_addresses_of_the_kernel_are_negative_integers() -> None:
    """An address above 2**63 wraps, and is found all the same."""
    begin = 0xFFFF_FFFF_8100_0000
    ranges = Ranges(np.array([begin], np.uint64), np.array([begin + 16], np.uint64))
    assert ranges.find(np.array([begin - 2**64 + 8], np.int64)).tolist() == [0]
