"""Texts that look like what the program reads, and are wrong: pieces of real ones, mixed."""

from collections.abc import Callable, Sequence
from random import Random

MAX_PIECES = 24
ODD = (
    *("", " ", "\n", "\t", "\0", "/", "//", ",", "=", "-", "--", ":", ".", "..", "%", "\\", '"'),
    *(
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\x1b[31m",
        "\u2028",
        "\ud800",
        "\ufffd",
        "é",
        "\U0001d4b3",
        "x" * 300,
    ),
    *("0", "-1", "1", "9" * 30, "1e999", "0x10", "٣", "NaN", "null", "true"),
)
"""What breaks parsers: nothing, separators, control characters, halves of characters, numbers."""


def mixed(random: Random, pieces: Sequence[str]) -> str:
    """Return some of *pieces* and odd ones in any order, often a real one with one change."""
    if random.random() < 0.5:
        return changed(random, random.choice(pieces))
    count = random.randrange(MAX_PIECES)
    return "".join(random.choice(pieces if random.random() < 0.7 else ODD) for _ in range(count))


def changed(random: Random, text: str) -> str:
    """Return *text* with up to three changes: something odd put in, cut out, doubled."""
    for _ in range(random.randrange(4)):
        start = random.randrange(len(text) + 1)
        end = random.randrange(start, len(text) + 1)
        change = random.randrange(4)
        if change == 0:
            text = text[:start] + random.choice(ODD) + text[start:]
        elif change == 1:
            text = text[:start] + text[end:]
        elif change == 2:
            text = text[:end] + text[start:]
        else:
            text = (
                text[:start] + chr(random.choice((0, 10, 34, 92, 255, 0x2028))) + text[start + 1 :]
            )
    return text


def many(random: Random, make: Callable[[Random], str], most: int) -> tuple[str, ...]:
    """Return up to *most* texts."""
    return tuple(make(random) for _ in range(random.randrange(most + 1)))


def octets(text: str) -> bytes:
    """Return the bytes of a text, also where it is none in UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def value(random: Random, words: Sequence[str], depth: int = 3) -> object:
    """Return any JSON value; its keys and texts are *words* and odd ones."""
    kind = random.randrange(8 if depth else 5)
    if kind <= 1:
        return mixed(random, words)
    if kind <= 4:
        return random.choice((None, True, False, 0, -1, 10**30, 1.5, "", [], {}))
    if kind == 5:
        return [value(random, words, depth - 1) for _ in range(random.randrange(4))]
    keys = [random.choice(words) for _ in range(random.randrange(5))]
    return {key: value(random, words, depth - 1) for key in keys}
