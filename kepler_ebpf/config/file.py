"""A YAML file as settings: dotted key to text, each with its file and line.

Reads YAML's tree of nodes, not Python values, for two reasons: every node has its line, and a
scalar keeps the text that the user wrote (YAML makes ``off`` a boolean and ``1:30`` a 90). The
caller gives the known keys and parses the values.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kepler_ebpf.config.option import Raw, Setting
from kepler_ebpf.errors import ConfigError

NULL_TAG = "tag:yaml.org,2002:null"


def read_file(
    path: Path, keys: frozenset[str], opaque: frozenset[str]
) -> tuple[dict[str, Setting], list[str]]:
    """Read the YAML file at *path*: its settings by dotted key, a warning for each unknown key.

    *keys* take a scalar or a list of scalars. *opaque* keys are Kepler's and may hold anything:
    their setting is only empty or not empty. Raises ConfigError, with file, line and key where
    known, for a file that cannot be read, is not YAML or has another shape.
    """
    try:
        loader = yaml.SafeLoader(_read_text(path))
        loader.name = str(path)
        walk = _Walk(loader, keys, opaque)
        root = loader.get_single_node()
        if root is not None:
            _refuse_doubles(root, "", set())
            walk.section(root, "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        raise ConfigError(
            f"{_location(mark) if mark else path}: not valid YAML: {problem}",
            "check indentation, quotes and brackets",
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply", "check its aliases and brackets") from error
    return walk.settings, walk.warnings


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8", "give a YAML file") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"cannot read the configuration file {path}: {reason}",
            "name a readable YAML file with --config.file",
        ) from error


def _refuse_doubles(node: yaml.Node, prefix: str, seen: set[yaml.Node]) -> None:
    """Refuse a key that is given twice in one map: YAML itself takes the last one."""
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, prefix, seen)
    lines: dict[str, int] = {}
    for key_node, value in node.value if isinstance(node, yaml.MappingNode) else ():
        where = _location(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key is {_shape(key_node)}", "want a plain word")
        key = _join(prefix, key_node)
        if key in lines:
            problem = f"{where}: {key} is given twice, first on line {lines[key]}"
            raise ConfigError(problem, "keep one of the two")
        lines[key] = key_node.start_mark.line + 1
        _refuse_doubles(value, key, seen)


@dataclass(frozen=True, slots=True)
class _Walk:
    loader: yaml.SafeLoader
    keys: frozenset[str]
    opaque: frozenset[str]
    settings: dict[str, Setting] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def section(self, node: yaml.Node, key: str) -> None:
        if node.tag == NULL_TAG:
            return
        if not isinstance(node, yaml.MappingNode):
            what = f"{key} holds" if key else "holds"
            example = min((known for known in self.keys if known.startswith(key)), default=None)
            raise ConfigError(
                f"{_location(node.start_mark)}: {what} {_shape(node)}",
                "want a map of keys" + (f", such as {example}" if example else ""),
            )
        # Puts merged entries (<<) first, so that the map's own entries override them.
        self.loader.flatten_mapping(node)
        for key_node, child in node.value:
            self.entry(child, _join(key, key_node))

    def entry(self, node: yaml.Node, key: str) -> None:
        if key in self.opaque:
            # What an item is does not matter, only whether there is one.
            value = node.value if isinstance(node.value, str) else ("...",) * len(node.value)
        elif key in self.keys:
            value = self.raw(node, key)
        elif any(known.startswith(f"{key}.") for known in self.keys | self.opaque):
            self.section(node, key)
            return
        else:
            nearest = difflib.get_close_matches(key, self.keys, n=1, cutoff=0.75)
            meant = f"; did you mean {nearest[0]}?" if nearest else ""
            where = _location(node.start_mark)
            self.warnings.append(f"{where}: the key {key} is unknown and has no effect{meant}")
            return
        if node.tag != NULL_TAG:
            self.settings[key] = Setting(value, f"{_location(node.start_mark)}: {key}")

    def raw(self, node: yaml.Node, key: str) -> Raw:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in items:
            if not isinstance(item, yaml.ScalarNode):
                raise ConfigError(
                    f"{_location(item.start_mark)}: {key} holds {_shape(item)}",
                    "want one value or a list",
                )
        texts = tuple(str(item.value) for item in items)
        return texts if isinstance(node, yaml.SequenceNode) else texts[0]


def _location(mark: yaml.Mark) -> str:
    return f"{mark.name}, line {mark.line + 1}"


def _join(prefix: str, key_node: yaml.ScalarNode) -> str:
    return f"{prefix}.{key_node.value}" if prefix else str(key_node.value)


def _shape(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a map"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"the value {str(node.value)[:60]!r}"
