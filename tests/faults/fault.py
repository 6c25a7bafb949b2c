"""What a fault is, and the list of all: each module of faults adds its own by ``@fault``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from running import Page

if TYPE_CHECKING:
    from bed import Bed

Counted = Callable[[Page], float]
Inject = Callable[["Bed"], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: how it is made and taken away, and what the program must do meanwhile.

    ``inject`` makes the fault, yields, and takes it away again. ``counted`` is what must rise by
    it. While the fault lasts the program ``measures`` on, and ``serves`` pages; or it ``ends``.
    """

    name: str
    bed: str
    what: str
    then: str
    inject: Inject
    counted: Counted | None = None
    measures: bool = True
    serves: bool = True
    ends: bool = False

    def injected(self, bed: Bed) -> AbstractContextManager[None]:
        """Return a context in which the fault is there."""
        return contextmanager(self.inject)(bed)


FAULTS: list[Fault] = []
"""All faults, in the order of the table."""


def fault(bed: str, then: str, **more: Any) -> Callable[[Inject], Inject]:
    """List a generator function as a fault of the bed named *bed*.

    Its docstring is what happens, and *then* what the program does: the words of the table.
    """

    def add(inject: Inject) -> Inject:
        name, what = inject.__name__.replace("_", " "), str(inject.__doc__).removesuffix(".")
        FAULTS.append(Fault(name, bed, what, then, inject, **more))
        return inject

    return add


def total(name: str, **labels: str) -> Counted:
    """Count by a metric of the page; ``path`` need only be the end of that label."""
    end = labels.pop("path", "")

    def read(page: Page) -> float:
        found = page.find(name, **labels)
        return sum(each.value for each in found if each.labels.get("path", "").endswith(end))

    return read
