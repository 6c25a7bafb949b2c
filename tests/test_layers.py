"""The tree is the architecture: each package imports only what stands below it."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kepler_ebpf"
ORDER = (
    ("__init__",),
    ("errors",),
    ("model",),
    ("host",),
    ("kernel", "meters", "names", "exporters", "attribution"),
    ("config",),
    ("ledger",),
    ("loop",),
    ("stat", "top", "recording", "profile"),
    ("jobs",),
    ("check", "wiring"),
    ("api", "verbs"),
    ("cli",),
    ("__main__",),
)
"""Rooms from the ground up. What stands in one line does not import each other."""

WIRED = {("check", "wiring")}
"""`check` tries what `run` would do, through the same wiring."""

MAX_CHAIN = 9
MAX_TOP_LEVEL = 8
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 300
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Name the module of a file, below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = (node.module or "").removeprefix("kepler_ebpf").removeprefix(".")
        if node.level:
            base = ".".join(filter(None, [dotted(path.parent / "__init__.py"), node.module]))
        elif not (node.module or "").startswith("kepler_ebpf"):
            continue
        for alias in node.names:
            full = f"{base}.{alias.name}" if base else alias.name
            found.add(full if full in MODULES else base or "__init__")
    return found - {dotted(path)}


def room(module: str) -> str:
    """Return the top-level package or module that *module* is in."""
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """A room imports itself and the rooms below it, and nothing beside or above."""
    here = room(module)
    wrong = {
        other
        for other in imported(MODULES[module])
        if room(other) != here
        and LEVEL[room(other)] >= LEVEL[here]
        and (here, room(other)) not in WIRED
    }
    assert wrong == set()


def test_chain_of_imports_is_short() -> None:
    """Nobody has to read many files in a row to understand one."""

    @cache
    def depth(module: str) -> int:
        below = [depth(other) for other in imported(MODULES[module]) if other != "__init__"]
        return 1 + max(below, default=0)

    assert max(depth(module) for module in MODULES) <= MAX_CHAIN


def test_few_files_at_the_top() -> None:
    """Everything has a room."""
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_TOP_LEVEL


def test_modules_and_functions_are_small() -> None:
    """What grows beyond a screen is two things."""
    long_modules, long_functions = [], []
    for path in FILES:
        text = path.read_text("utf-8")
        if text.count("\n") > MAX_MODULE_LINES:
            long_modules.append(dotted(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long_functions.append(f"{dotted(path)}.{node.name}")
    assert (long_modules, long_functions) == ([], [])


def test_every_room_says_what_it_is_for() -> None:
    """The first lines of a package tell what belongs in it."""
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path
