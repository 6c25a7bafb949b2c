"""The tree of frames that a flame graph draws, without what would be too narrow to see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kepler_ebpf.model.arrays import Bools, Floats, Ints
from kepler_ebpf.profile.formats.merged import merged, whole
from kepler_ebpf.profile.model import Frame, Origin, Profile

MIN_SHARE = 0.1 / 1600
"""A frame is drawn if it has this part of one of the values: 0.1 px of a wide window."""

MAX_FRAMES = 50_000

PROGRAM = "program"
"""The class of a frame that is a program. That of others is the value of their origin, or that of
no origin if they are not functions."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The frames that are drawn, each before those that it called, the heaviest of them first.

    ``frame`` (N,) indexes ``frames`` and ``classes``; ``depth`` (N,) is 0 for the whole and 1 for
    programs; ``values`` (N, kinds + 2) are whole microjoules of each kind, CPU ns and samples.
    ``pruned`` frames are not here: those of one caller are one frame if that can be seen, and are
    else a part of the caller's own.
    """

    frames: tuple[Frame, ...]
    classes: tuple[str, ...]
    frame: Ints
    depth: Ints
    values: Floats
    pruned: int


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of a tree, callers first. ``parent`` of the first is itself."""

    parent: Ints
    frame: Ints
    depth: Ints
    values: Floats

    def chosen(self, which: Bools | Ints) -> Nodes:
        """Return some of the nodes; their parents still index all of them."""
        return Nodes(self.parent[which], self.frame[which], self.depth[which], self.values[which])


def tree(profile: Profile, kind: str) -> Tree:
    """Return the tree. What a frame called is in the order of its energy of *kind*."""
    programs = sorted({process.comm for process in profile.processes})
    first = len(profile.frames)
    extra = [*programs, "[too small to show]", "all"]
    frames = (*profile.frames, *(Frame(name, "", Origin.NONE) for name in extra))
    classes = [
        Origin.NONE.value if frame.name.startswith("[") else frame.origin.value for frame in frames
    ]
    classes[first : first + len(programs)] = [PROGRAM] * len(programs)
    classes[-1] = PROGRAM
    every = _nodes(profile, {comm: first + index for index, comm in enumerate(programs)})
    kept = _visible(every)
    rest = _rest(every, kept, frame=len(frames) - 2)
    order = _in_order(every, kept, rest, profile.kinds.index(kind))
    everything = Nodes(
        *(
            np.concatenate((getattr(every, name), getattr(rest, name)))
            for name in ("parent", "frame", "depth", "values")
        )
    ).chosen(order)
    return Tree(
        frames,
        tuple(classes),
        everything.frame,
        everything.depth,
        everything.values,
        pruned=len(kept) - int(kept.sum()),
    )


def _nodes(profile: Profile, programs: dict[str, int]) -> Nodes:
    """Return all nodes with their sums."""
    found = merged(profile)
    places: dict[tuple[int, int], int] = {}
    parent, frame, depth, leaves = [0], [len(profile.frames) + len(programs) + 1], [0], []
    for process, stack in zip(found.process.tolist(), found.stack.tolist(), strict=True):
        node = 0
        path = (programs[profile.processes[process].comm], *profile.stacks[stack])
        for level, index in enumerate(path, 1):
            place = places.setdefault((node, index), len(parent))
            if place == len(parent):
                parent.append(node)
                frame.append(index)
                depth.append(level)
            node = place
        leaves.append(node)
    values = np.zeros((len(parent), len(profile.kinds) + 2))
    columns = [*found.energy_uj.T, found.cpu_ns, found.samples]
    figures = np.column_stack([whole(column) for column in columns])
    np.add.at(values, np.array(leaves, np.int64), figures)
    nodes = Nodes(np.array(parent), np.array(frame), np.array(depth), values)
    for level in range(int(nodes.depth.max()), 0, -1):
        at = nodes.depth == level
        np.add.at(values, nodes.parent[at], values[at])
    return nodes


def _share(values: Floats, root: Floats) -> Floats:
    """Return the largest part that each has of one of the root's values."""
    largest: Floats = (values / np.where(root > 0, root, np.inf)).max(axis=1)
    return largest


def _visible(every: Nodes) -> Bools:
    """Return which nodes are drawn: callers are, where what they called is."""
    share = _share(every.values, every.values[0])
    visible = np.zeros(len(share), np.bool_)
    visible[np.argsort(-share, kind="stable")[:MAX_FRAMES]] = True
    visible &= share >= MIN_SHARE
    visible[0] = True
    return visible


def _rest(every: Nodes, kept: Bools, frame: int) -> Nodes:
    """Return a node for what is not drawn of each caller, where the sum of that can be seen."""
    top = ~kept & kept[every.parent]
    values = np.zeros_like(every.values)
    np.add.at(values, every.parent[top], every.values[top])
    callers = np.flatnonzero(_share(values, every.values[0]) >= MIN_SHARE)
    depth = every.depth[callers] + 1
    return Nodes(callers, np.full(len(callers), frame), depth, values[callers])


def _in_order(every: Nodes, kept: Bools, rest: Nodes, column: int) -> Ints:
    """Return the places of the kept nodes and of *rest*, which follows them, as they are drawn."""
    called: dict[int, list[int]] = {}
    for node in np.argsort(every.values[:, column], kind="stable").tolist():
        if kept[node] and node:
            called.setdefault(int(every.parent[node]), []).append(node)
    for place, caller in enumerate(rest.parent.tolist(), len(kept)):
        called.setdefault(caller, []).insert(0, place)
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += called.get(node, ())
    return np.array(order, np.int64)
