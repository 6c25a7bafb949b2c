"""The index finds exactly what was entered, whatever the order and however alike."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.ledger.identity_index import NO_ROW, IdentityIndex, Majors, Minors

identities = st.tuples(
    st.sampled_from([0, 1, 2, 1 << 63, (1 << 63) + 1, (1 << 64) - 1]), st.integers(0, 3)
)
changes = st.lists(st.tuples(st.booleans(), st.sets(identities, min_size=1)), max_size=8)


def arrays(pairs) -> tuple[Majors, Minors]:
    """Return majors and minors of *pairs* as arrays."""
    majors, minors = zip(*pairs, strict=True)
    return np.array(majors, np.uint64), np.array(minors, np.uint32)


@given(changes)
def test_finds_what_a_dictionary_finds(story):
    """After any additions and removals each identity has the row a dictionary has for it."""
    index = IdentityIndex()
    expected: dict[tuple[int, int], int] = {}
    for is_addition, pairs in story:
        if is_addition:
            new = [pair for pair in pairs if pair not in expected]
            rows = range(len(expected), len(expected) + len(new))
            expected.update(zip(new, rows, strict=True))
            if new:
                index.add(*arrays(new), np.array(rows))
        else:
            index.discard(*arrays(list(pairs)))
            for pair in pairs:
                expected.pop(pair, None)
    asked = [(major, minor) for major in (0, 1, 2, 3, 1 << 63, (1 << 64) - 1) for minor in range(4)]
    found = index.find(*arrays(asked)).tolist()
    assert found == [expected.get(pair, NO_ROW) for pair in asked]


def test_an_empty_index_has_nothing():
    """Nothing is found before anything was entered, the highest identity included."""
    top = [((1 << 64) - 1, (1 << 32) - 1), (0, 0)]
    assert IdentityIndex().find(*arrays(top)).tolist() == [NO_ROW, NO_ROW]
