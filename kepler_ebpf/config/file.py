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

from kepler_ebpf.errors import ConfigError

Raw = str | tuple[str, ...]

NULL_TAG = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Setting:
    """The text of one key, and the name of its source in errors: a flag, or file and line."""

    value: Raw
    source: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The dotted keys a file may hold.

    ``values`` take a scalar or a list of scalars. ``opaque`` keys are Kepler's and may hold
    anything: their setting is only empty or not empty.
    """

    values: frozenset[str]
    opaque: frozenset[str]

    def is_section(self, key: str) -> bool:
        """Whether *key* is the beginning of a known key."""
        return any(known.startswith(f"{key}.") for known in self.values | self.opaque)

    def nearest(self, key: str) -> str | None:
        """Return the known key that is most like *key*, None where none is near."""
        close = difflib.get_close_matches(key, self.values, n=1, cutoff=0.75)
        return close[0] if close else None


@dataclass(slots=True)
class FileSettings:
    """The settings of a file by dotted key, and a warning for each unknown key."""

    settings: dict[str, Setting] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_file(path: Path, keys: Keys) -> FileSettings:
    """Read the YAML file at *path*.

    Raises ConfigError, with file, line and key where known, for a file that cannot be read, is
    not YAML or whose shape is not that of *keys*.
    """
    result = FileSettings()
    try:
        loader = yaml.SafeLoader(_read_text(path))
        root = loader.get_single_node()
        if root is not None and root.tag != NULL_TAG:
            _refuse_doubles(path, root)
            _Walk(path, keys, loader, result).section(root, "")
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply", "check its aliases and brackets") from error
    return result


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


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    return ConfigError(
        f"{where}: not valid YAML: {problem}", "check indentation, quotes and brackets"
    )


def _refuse_doubles(path: Path, root: yaml.Node) -> None:
    """Refuse a key that is given twice in one map: YAML itself takes the last one."""
    pending, seen = [(root, "")], set[int]()
    while pending:
        node, key = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            pending += _distinct(path, node, key)
        elif isinstance(node, yaml.SequenceNode):
            pending += [(item, key) for item in node.value]


def _distinct(path: Path, node: yaml.MappingNode, prefix: str) -> list[tuple[yaml.Node, str]]:
    lines: dict[str, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            where = _location(path, key_node)
            raise ConfigError(f"{where}: a key is {_shape(key_node)}", "want a plain word")
        key = _join(prefix, key_node)
        if key in lines:
            raise ConfigError(
                f"{_location(path, key_node)}: {key} is given twice, first on line {lines[key]}",
                "keep one of the two",
            )
        lines[key] = key_node.start_mark.line + 1
    return [(value, _join(prefix, key_node)) for key_node, value in node.value]


def _join(prefix: str, key_node: yaml.ScalarNode) -> str:
    return f"{prefix}.{key_node.value}" if prefix else str(key_node.value)


def _location(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


@dataclass(frozen=True, slots=True)
class _Walk:
    path: Path
    keys: Keys
    loader: yaml.SafeLoader
    result: FileSettings

    def section(self, node: yaml.Node, key: str) -> None:
        if node.tag == NULL_TAG:
            return
        if not isinstance(node, yaml.MappingNode):
            what = f"{key} holds" if key else "holds"
            raise ConfigError(
                f"{_location(self.path, node)}: {what} {_shape(node)}",
                f"want a map of keys{self.example(key)}",
            )
        # Puts merged entries (<<) first, so that the map's own entries override them.
        self.loader.flatten_mapping(node)
        for key_node, child in node.value:
            self.entry(child, _join(key, key_node))

    def entry(self, node: yaml.Node, key: str) -> None:
        if key in self.keys.opaque:
            self.keep(node, key, node.value if isinstance(node.value, str) else _or_empty(node))
        elif key in self.keys.values:
            self.keep(node, key, self.raw(node, key))
        elif self.keys.is_section(key):
            self.section(node, key)
        else:
            self.result.warnings.append(f"{_location(self.path, node)}: {self.unknown(key)}")

    def keep(self, node: yaml.Node, key: str, value: Raw) -> None:
        if node.tag != NULL_TAG:
            self.result.settings[key] = Setting(value, f"{_location(self.path, node)}: {key}")

    def raw(self, node: yaml.Node, key: str) -> Raw:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        wrong = next((item for item in items if not isinstance(item, yaml.ScalarNode)), None)
        if wrong is not None:
            raise ConfigError(
                f"{_location(self.path, wrong)}: {key} holds {_shape(wrong)}",
                "want one value or a list",
            )
        texts = tuple(str(item.value) for item in items)
        return texts if isinstance(node, yaml.SequenceNode) else texts[0]

    def unknown(self, key: str) -> str:
        nearest = self.keys.nearest(key)
        meant = f"; did you mean {nearest}?" if nearest else ""
        return f"the key {key} is unknown and has no effect{meant}"

    def example(self, section: str) -> str:
        known = sorted(key for key in self.keys.values if key.startswith(section))
        return f", such as {known[0]}" if known else ""


def _or_empty(node: yaml.Node) -> Raw:
    return ("...",) if node.value else ()


def _shape(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a map"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"the value {str(node.value)[:60]!r}"
