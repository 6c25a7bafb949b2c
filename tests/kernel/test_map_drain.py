"""Moving what is in a kernel map: nothing that has left the map is lost."""

import os
from collections.abc import Iterator
from ctypes import byref, c_uint64

import numpy as np
import pytest

from kepler_ebpf.kernel.libbpf import MapDrain, library

HASH = 1
ENTRIES = 4_096
ROWS = 100
"""Far fewer than there are entries: a bucket of the map often does not fit into what is left."""


@pytest.fixture
def full_map() -> Iterator[int]:
    """Give a real map in which every key is its own value."""
    fd = library().bpf_map_create(HASH, b"drained", 8, 8, ENTRIES, None)
    assert fd >= 0
    for number in range(ENTRIES):
        word = byref(c_uint64(number))
        assert library().bpf_map_update_elem(fd, word, word, 0) == 0
    yield fd
    os.close(fd)


def test_map_with_more_than_there_is_room_for_is_drained_in_parts(full_map: int) -> None:
    """Each call returns what has left the map, and the next ones the rest, each entry once."""
    drain = MapDrain([full_map], np.dtype("u8"), np.dtype("u8"), ROWS)
    seen: list[int] = []
    while count := drain.take():
        assert (drain.keys[:count] == drain.values[:count]).all()
        seen += drain.keys[:count].tolist()
    assert sorted(seen) == list(range(ENTRIES))
