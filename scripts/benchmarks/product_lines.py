"""product_lines: how much Python there is to read, and how much of it in one piece."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.figure import Bar, Details, Figure
from benchmarks.processes import OURS, Checkout

PACKAGE = "kepler_ebpf"
LIMITS = {"import_chain": 9, "top_level_files": 8, "function_max": 40, "module_max": 300}


def measure() -> Iterator[Figure]:
    """Count the lines that are neither blank nor comments, docstrings included."""
    counts = _sizes(OURS)
    details: Details = {
        **counts,
        **{f"bar_{name}": f"<= {limit}" for name, limit in LIMITS.items()},
    }
    also = all(counts[name] <= limit for name, limit in LIMITS.items())
    yield Figure("product_lines", counts["lines"], "lines", Bar(math.inf), details, also=also)


def sample(checkout: Checkout) -> dict[str, float]:
    """Lines of a checkout's package, with docstrings and without."""
    sizes = _sizes(checkout)
    return {name: sizes[name] for name in ("lines", "lines_without_docstrings")}


def _sizes(checkout: Checkout) -> dict[str, int]:
    """Sizes of a checkout's package; a chain of imports is as long as it has modules."""
    top = checkout.root / PACKAGE
    texts = {_name(path, top): path.read_text("utf-8") for path in sorted(top.rglob("*.py"))}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    lines = {name: _lines(text) for name, text in texts.items()}
    return {
        "lines": sum(map(len, lines.values())),
        "lines_without_docstrings": sum(
            len(numbers - _docstring_lines(trees[name])) for name, numbers in lines.items()
        ),
        "modules": len(texts),
        "import_chain": _longest_chain(trees),
        "top_level_files": len(list(top.glob("*.py"))),
        "function_max": max(_function_lines(tree) for tree in trees.values()),
        "module_max": max(text.count("\n") for text in texts.values()),
    }


def _name(path: Path, top: Path) -> str:
    """Dotted name of a module; a package has that of its directory."""
    parts = path.relative_to(top.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _lines(text: str) -> set[int]:
    return {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }


def _docstring_lines(tree: ast.Module) -> set[int]:
    """Lines of strings that stand alone: docstrings of modules, classes, functions and names."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _function_lines(tree: ast.Module) -> int:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return max(((node.end_lineno or 0) - node.lineno + 1 for node in functions), default=0)


def _longest_chain(trees: dict[str, ast.Module]) -> int:
    @cache
    def depth(module: str) -> int:
        return 1 + max((depth(other) for other in _imported(module, trees)), default=0)

    return max(depth(module) for module in trees)


def _imported(module: str, trees: dict[str, ast.Module]) -> set[str]:
    """Modules of the package that a module imports anywhere in it; the package is none."""
    froms = [node for node in ast.walk(trees[module]) if isinstance(node, ast.ImportFrom)]
    pairs = [(node.module or "", alias.name) for node in froms for alias in node.names]
    names = {full if (full := f"{base}.{name}") in trees else base for base, name in pairs}
    return names & trees.keys() - {PACKAGE, module}
