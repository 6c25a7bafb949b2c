"""One setting: how it is written on the command line and in YAML, and how it is parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kepler_ebpf.config import values

T = TypeVar("T")
R = TypeVar("R", str, tuple[str, ...])
Raw = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """The text of one key, and the name of its source in errors: a flag, or file and line."""

    value: Raw
    source: str


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    ``field`` is its field in the Config. ``default`` is the text (or texts, for a list) that a user
    would write. ``flags`` may be empty; messages name the first one. ``parse`` raises ValueError.
    """

    field: str
    key: str
    flags: tuple[str, ...]
    help: str
    default: str | tuple[str, ...]
    parse: Callable[[Any], object]

    @property
    def is_list(self) -> bool:
        """Whether it has several values."""
        return isinstance(self.default, tuple)

    @property
    def is_switch(self) -> bool:
        """Whether its flag may stand without a value."""
        return self.parse is values.boolean


def option(spelling: str, meaning: str, default: R, parse: Callable[[R], T]) -> T:
    """Make a field with its default value; *spelling* is the YAML key and any flags."""
    # Typed as the value, as dataclasses.field is: the field's type is then checked against it.
    key, *flags = spelling.split()
    described = Option("", key, tuple(flags), meaning, default, parse)
    return field(default=parse(default), metadata={"option": described})


def switch(spelling: str, meaning: str, default: str = "false") -> bool:
    """Make a field that is true or false."""
    return option(spelling, meaning, default, values.boolean)


def text(spelling: str, meaning: str) -> str:
    """Make a field that takes any text; it is empty by default."""
    return option(spelling, meaning, "", str)


def patterns(word: str, meaning: str) -> values.Texts:
    """Make a field of regular expressions, with the key ``ebpf.someWord`` and ``--some-word``."""
    flag = re.sub("[A-Z]", lambda capital: f"-{capital[0].lower()}", word)
    return option(f"ebpf.{word} --{flag}", meaning, (), values.each(values.pattern))


def words_of(words: Iterable[str], last: str = "or") -> str:
    """Write words as a list in a sentence: "a, b or c"."""
    *most, final = words
    return f"{', '.join(most)} {last} {final}"
