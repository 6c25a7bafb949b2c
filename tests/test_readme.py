"""The README says what the program does: its metrics, its options and its commands."""

import re
from pathlib import Path

import pytest

from kepler_ebpf.config.options import OPTIONS
from kepler_ebpf.exporters.catalog import METRICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def section(name):
    """Return what stands between two markers."""
    return README.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


def metric_row(metric):
    """Return the table row of a metric."""
    labels = ", ".join(metric.labels)
    return f"| `{metric.name}` | {metric.type} | {metric.level} | {labels} | {metric.help} |"


def option_row(option):
    """Return the table row of an option."""
    default = option.default if isinstance(option.default, str) else ", ".join(option.default)
    default = "the host's name" if option.field == "node_name" else default
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    return f"| {flags} | `{option.key}` | {default} | {option.help} |"


TABLES = {
    "metrics": [
        "| metric | type | level | labels | meaning |",
        "|---|---|---|---|---|",
        *map(metric_row, METRICS),
    ],
    "options": [
        "| flag | YAML key | default | meaning |",
        "|---|---|---|---|",
        *map(option_row, OPTIONS),
    ],
}


@pytest.mark.parametrize("name", TABLES)
def test_table_is_what_the_program_has(name):
    """Each generated table lists exactly what the code declares, in its order."""
    assert section(name).strip().splitlines() == TABLES[name]


def test_links_lead_somewhere():
    """Every relative link names a file."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_paths_in_the_map_exist():
    """The table of the tree names what is there."""
    named = re.findall(r"^\| `([a-z_./]+)`", README, re.MULTILINE)
    assert [path for path in named if "/" in path and not (ROOT / path).exists()] == []


def test_opens_with_the_two_commands():
    """The first code block runs the program and the tests."""
    commands = README.partition("```sh\n")[2].partition("```")[0].split()
    assert {"scripts/run", "scripts/test"} <= set(commands)
