"""The tables of one thread in a file of the Firefox Profiler: stacks, frames, functions, names."""

from __future__ import annotations

from typing import Any

from kepler_ebpf.profile.model import Origin, Profile

CATEGORIES = [
    {"name": "Other", "color": "grey", "subcategories": ["Other"]},
    {"name": "User", "color": "yellow", "subcategories": ["Other"]},
    {"name": "Kernel", "color": "orange", "subcategories": ["Other"]},
    {"name": "JIT", "color": "green", "subcategories": ["Other"]},
]
CATEGORY = {Origin.NONE: 0, Origin.USER: 1, Origin.KERNEL: 2, Origin.JIT: 3}
NO_SYMBOLS = {
    **{name: [] for name in ("libIndex", "address", "name", "functionSize")},
    "length": 0,
}
LIBRARY = 1
"""Type of a resource."""


class StackTables:
    """Stacks as a tree, with the frames that are in them. One frame has one function."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._nodes: dict[tuple[int | None, int], int] = {}
        self._frames: dict[int, int] = {}
        self._strings: dict[str, int] = {}
        self._modules: dict[str, int] = {}

    def stack(self, index: int) -> int | None:
        """Return the place of a stack of the profile; None where it has no frames."""
        node = None
        for frame in self._profile.stacks[index]:
            place = self._frames.setdefault(frame, len(self._frames))
            node = self._nodes.setdefault((node, place), len(self._nodes))
        return node

    def columns(self) -> dict[str, Any]:
        """Return the tables."""
        frames = [self._profile.frames[index] for index in self._frames]
        count = len(frames)
        categories = [CATEGORY[frame.origin] for frame in frames]
        names = [self._string(frame.name) for frame in frames]
        modules = [
            self._modules.setdefault(frame.module, len(self._modules)) if frame.module else -1
            for frame in frames
        ]
        resources = [self._string(module) for module in self._modules]
        none, zeros = [None] * count, [0] * count
        return {
            "stackTable": self._stacks(categories),
            "frameTable": {
                "address": [-1] * count,
                "inlineDepth": zeros,
                "category": categories,
                "subcategory": zeros,
                "func": list(range(count)),
                **dict.fromkeys(("nativeSymbol", "implementation", "line", "column"), none),
                "innerWindowID": zeros,
                "length": count,
            },
            "funcTable": {
                "name": names,
                "resource": modules,
                **dict.fromkeys(("isJS", "relevantForJS"), [False] * count),
                **dict.fromkeys(("fileName", "lineNumber", "columnNumber"), none),
                "length": count,
            },
            "resourceTable": {
                "name": resources,
                "type": [LIBRARY] * len(resources),
                **dict.fromkeys(("lib", "host"), [None] * len(resources)),
                "length": len(resources),
            },
            "nativeSymbols": NO_SYMBOLS,
            "stringArray": list(self._strings),
        }

    def _stacks(self, categories: list[int]) -> dict[str, Any]:
        return {
            "frame": [frame for _, frame in self._nodes],
            "prefix": [prefix for prefix, _ in self._nodes],
            "category": [categories[frame] for _, frame in self._nodes],
            "subcategory": [0] * len(self._nodes),
            "length": len(self._nodes),
        }

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))
