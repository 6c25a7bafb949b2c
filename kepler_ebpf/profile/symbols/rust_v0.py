"""Names of Rust functions in the mangling that is called v0, by the grammar of RFC 2603.

A name may refer to parts of itself, and so stand for one that is exponentially longer: work, depth
and length are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_STEPS = 5_000
MAX_DEPTH = 80
MAX_LENGTH = 4_096
"""Parts of a name that are read, how deep they lie in each other, and characters of the result."""

MAX_CODE = 0x110000
"""Characters have smaller numbers."""

_BASIC_NAMES = (
    *("i8", "bool", "char", "f64", "str", "f32", "u8", "isize", "usize", "i32", "u32", "i128"),
    *("u128", "_", "i16", "u16", "()", "...", "i64", "u64", "!"),
)
_BASIC = dict(zip("abcdefhijlmnopstuvxyz", _BASIC_NAMES, strict=True))
_UNSIGNED, _SIGNED = frozenset("hjmoty"), frozenset("ailnsx")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = f"0123456789{_LETTERS}{_LETTERS.upper()}"
_BASE_62 = re.compile("([0-9a-zA-Z]{0,11})_")
_LENGTH = re.compile("0|[1-9][0-9]{0,4}")
_HEX = re.compile("([0-9a-f]{0,32})_")
_UNPRINTED = {"C": "closure", "S": "shim"}


class _InvalidError(Exception):
    """The text is no name of this mangling, or is beyond the bounds."""


def demangle_v0(name: str) -> str:
    """Return the name that *name* stands for, without the hashes of crates; "" if it is not v0."""
    body = name.removeprefix("_R").partition(".")[0]
    parser = _Parser(body)
    try:
        found = parser.path(in_value=True)
        if parser.at < len(body):  # The crate in which generic code was made is not shown.
            parser.path(in_value=False)
    except _InvalidError:
        return ""
    return found if parser.at == len(body) else ""


class _Parser:
    def __init__(self, text: str) -> None:
        self.at = 0
        self._text = text
        self._steps = self._depth = self._lifetimes = 0
        self._paths: dict[str, Callable[[bool], str]] = {
            "C": lambda _: self._identifier()[1],
            "N": self._nested,
            "M": lambda _: f"<{self._of_impl()}>",
            "X": lambda _: f"<{self._of_impl()} as {self.path(in_value=False)}>",
            "Y": lambda _: f"<{self._type()} as {self.path(in_value=False)}>",
            "I": self._generic,
        }
        self._types: dict[str, Callable[[], str]] = {
            "A": lambda: f"[{self._type()}; {self._const()}]",
            "S": lambda: f"[{self._type()}]",
            "T": self._tuple,
            "R": lambda: f"&{self._reference()}{self._type()}",
            "Q": lambda: f"&{self._reference()}mut {self._type()}",
            "P": lambda: f"*const {self._type()}",
            "O": lambda: f"*mut {self._type()}",
            "F": lambda: self._bound(self._function),
            "D": self._dyn,
        }

    # --- the text

    def _next(self) -> str:
        self.at += 1
        return self._text[self.at - 1 : self.at]

    def _takes(self, letter: str) -> bool:
        found = self._text.startswith(letter, self.at)
        self.at += found
        return found

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self.at)
        if not match:
            raise _InvalidError
        self.at = match.end()
        return match

    def _base_62(self) -> int:
        value = 0
        digits = self._match(_BASE_62)[1]
        for digit in digits:
            value = value * 62 + _DIGITS.index(digit)
        return value + 1 if digits else 0

    def _counted(self, letter: str) -> int:
        """Return the number behind *letter*, from 1; 0 where that is absent."""
        return self._base_62() + 1 if self._takes(letter) else 0

    def _word(self) -> str:
        is_punycode = self._takes("u")
        length = int(self._match(_LENGTH)[0])
        self._takes("_")
        word = self._text[self.at : self.at + length]
        self.at += length
        if self.at > len(self._text):
            raise _InvalidError
        if not is_punycode:
            return word
        basic, _, rest = word.rpartition("_")
        try:
            return f"{basic}-{rest}".lstrip("-").encode("ascii").decode("punycode")
        except (ValueError, OverflowError) as error:
            raise _InvalidError from error

    def _identifier(self) -> tuple[int, str]:
        return self._counted("s"), self._word()

    def _many(self, read: Callable[[], str]) -> list[str]:
        found = []
        while not self._takes("E"):
            found.append(read())
        return found

    def _nested_in(self, read: Callable[[], str]) -> str:
        """Return what *read* does, one step deeper, within the bounds."""
        self._steps += 1
        self._depth += 1
        if self._steps > MAX_STEPS or self._depth > MAX_DEPTH or self.at >= len(self._text):
            raise _InvalidError
        found = read()
        self._depth -= 1
        if len(found) > MAX_LENGTH:
            raise _InvalidError
        return found

    def _back(self, read: Callable[[], str]) -> str:
        """Return what *read* does at an earlier place of the text."""
        here, target = self.at - 1, self._base_62()
        if target >= here:
            raise _InvalidError
        after, self.at = self.at, target
        found = read()
        self.at = after
        return found

    # --- paths

    def path(self, *, in_value: bool) -> str:
        """Read a path; in a value, generic arguments stand behind colons."""

        def read() -> str:
            tag = self._next()
            if tag == "B":
                return self._back(lambda: self.path(in_value=in_value))
            if tag not in self._paths:
                raise _InvalidError
            return self._paths[tag](in_value)

        return self._nested_in(read)

    def _nested(self, in_value: bool) -> str:
        space = self._next()
        parent = self.path(in_value=in_value)
        number, name = self._identifier()
        if space.isupper():
            kind = _UNPRINTED.get(space, space)
            return f"{parent}::{{{kind}{':' if name else ''}{name}#{number}}}"
        return f"{parent}::{name}" if name else parent

    def _of_impl(self) -> str:
        self._counted("s")
        self.path(in_value=False)
        return self._type()

    def _generic(self, in_value: bool) -> str:
        path = self.path(in_value=in_value)
        return f"{path}{'::' if in_value else ''}<{', '.join(self._many(self._argument))}>"

    def _argument(self) -> str:
        if self._takes("L"):
            return self._lifetime(self._base_62())
        return self._const() if self._takes("K") else self._type()

    # --- types

    def _type(self) -> str:
        def read() -> str:
            tag = self._next()
            if tag in _BASIC:
                return _BASIC[tag]
            if tag == "B":
                return self._back(self._type)
            if tag in self._types:
                return self._types[tag]()
            self.at -= 1
            return self.path(in_value=False)

        return self._nested_in(read)

    def _tuple(self) -> str:
        parts = self._many(self._type)
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def _reference(self) -> str:
        number = self._base_62() if self._takes("L") else 0
        return f"{self._lifetime(number)} " if number else ""

    def _lifetime(self, number: int) -> str:
        if not number:
            return "'_"
        depth = self._lifetimes - number
        if depth < 0:
            raise _InvalidError
        return f"'{_LETTERS[depth]}" if depth < len(_LETTERS) else f"'_{depth}"

    def _bound(self, read: Callable[[], str]) -> str:
        """Return what *read* does where lifetimes are bound by ``for``."""
        count = self._counted("G")
        if count > MAX_DEPTH:
            raise _InvalidError
        self._lifetimes += count
        names = ", ".join(self._lifetime(count - index) for index in range(count))
        found = read()
        self._lifetimes -= count
        return f"for<{names}> {found}" if count else found

    def _function(self) -> str:
        text = "unsafe " if self._takes("U") else ""
        if self._takes("K"):
            abi = "C" if self._takes("C") else self._word().replace("_", "-")
            text += f'extern "{abi}" '
        arguments = ", ".join(self._many(self._type))
        result = "" if self._takes("u") else f" -> {self._type()}"
        return f"{text}fn({arguments}){result}"

    def _dyn(self) -> str:
        traits = self._bound(lambda: " + ".join(self._many(self._trait)))
        if not self._takes("L"):
            raise _InvalidError
        number = self._base_62()
        return f"dyn {traits}{f' + {self._lifetime(number)}' if number else ''}"

    def _trait(self) -> str:
        path = self.path(in_value=False)
        bindings = []
        while self._takes("p"):
            name = self._word()
            bindings.append(f"{name} = {self._type()}")
        if not bindings:
            return path
        opened = f"{path[:-1]}, " if path.endswith(">") else f"{path}<"
        return f"{opened}{', '.join(bindings)}>"

    def _const(self) -> str:
        def read() -> str:
            tag = self._next()
            if tag == "B":
                return self._back(self._const)
            if tag == "p":
                return "_"
            sign = "-" if tag in _SIGNED and self._takes("n") else ""
            value = int(self._match(_HEX)[1] or "0", 16)
            if tag in _SIGNED or tag in _UNSIGNED:
                return f"{sign}{value}"
            if tag == "b" and value <= 1:
                return str(bool(value)).lower()
            if tag == "c" and value < MAX_CODE:
                return repr(chr(value))
            raise _InvalidError

        return self._nested_in(read)
