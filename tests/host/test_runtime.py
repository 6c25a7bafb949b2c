"""Reference cycles are looked for when there is time, and not in between."""

import gc
import weakref

from kepler_ebpf.host.runtime import GARBAGE_PERIOD_S, garbage_rounds


class Knot:
    """An object that only the search for cycles can free."""

    def __init__(self):
        self.itself = self


def test_automatic_rounds_are_off_only_meanwhile():
    """The interpreter's own search is off within the context and on after it."""
    with garbage_rounds():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_cycles_are_freed_once_a_period():
    """A cycle lives until the next round and no longer."""
    now_s = [0.0]
    with garbage_rounds(lambda: now_s[0]) as search:
        knot = weakref.ref(Knot())
        search()
        assert knot() is not None
        now_s[0] += GARBAGE_PERIOD_S
        search()
        assert knot() is None
