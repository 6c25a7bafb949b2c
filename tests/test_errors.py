"""The errors that a user meets: each has its problem, and apart from it its remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kepler_ebpf.errors import ConfigError, KeplerError, SetupError

PACKAGE = Path(__file__).parents[1] / "kepler_ebpf"
TREES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
ADVICE = re.compile(r"[:;] (give|use|name|mount|choose|install|write|set|add|grant) ")


def subclasses(*bases: str) -> set[str]:
    """Return the names of these classes and of all classes of ours below them."""
    known = set(bases)
    classes = [
        node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    while (
        more := {
            node.name for node in classes if known & {ast.unparse(base) for base in node.bases}
        }
        - known
    ):
        known |= more
    return known


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of these names, with its place in the code."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def is_starred(call: ast.Call) -> bool:
    """Whether a function gives problem and remedy together."""
    return any(isinstance(argument, ast.Starred) for argument in call.args)


def texts(node: ast.AST) -> str:
    """Join the literal text in an expression."""
    return "".join(
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def test_problem_is_one_line_without_advice() -> None:
    """What to do is the remedy of an error, never a part of its problem."""
    wrong = [
        where
        for where, call in calls(subclasses("KeplerError"))
        if call.args and ("\n" in texts(call) or ADVICE.search(texts(call.args[0])))
    ]
    assert wrong == []


def test_every_error_of_the_host_or_the_user_has_a_remedy() -> None:
    """No SetupError or ConfigError leaves its reader without advice."""
    wrong = [
        where
        for where, call in calls(subclasses("SetupError", "ConfigError"))
        if len(call.args) + len(call.keywords) < 2 and not is_starred(call)
    ]
    assert wrong == []


@pytest.mark.parametrize("error", [KeplerError, SetupError, ConfigError])
def test_remedy_is_apart_from_the_problem(error: type[KeplerError]) -> None:
    """Both can be read apart, and the text of the error has both."""
    raised = error("it broke", "mend it")
    assert (raised.problem, raised.remedy) == ("it broke", "mend it")
    assert str(raised) == "it broke\nmend it"
