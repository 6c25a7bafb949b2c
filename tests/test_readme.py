"""The documents describe what the program has: its metrics, options, rooms and words."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kepler_ebpf.config.options import OPTIONS
from kepler_ebpf.exporters.catalog import METRICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
REFERENCES = ("kepler_ebpf/exporters/README.md", "kepler_ebpf/config/README.md")
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        *ROOT.glob("deploy/*.md"),
        *ROOT.glob("kepler_ebpf/**/*.md"),
        *ROOT.glob("tests/**/*.md"),
    )
)


def text_of(document: str) -> str:
    """Return the text of a document of this checkout."""
    return (ROOT / document).read_text("utf-8")


def anchors(text: str) -> set[str]:
    """Return the names under which the headings of a document can be linked to."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reference_tables_are_up_to_date(tmp_path: Path) -> None:
    """The tables of metrics and options are what scripts/render_docs.py writes today."""
    script = ROOT / "scripts" / "render_docs.py"
    for page in REFERENCES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    subprocess.run([sys.executable, script, tmp_path], check=True)
    for page in REFERENCES:
        assert (tmp_path / page).read_text("utf-8") == text_of(page), f"{page}: run {script}"


def test_reference_tables_have_a_row_for_everything() -> None:
    """Each metric and each key of the configuration is the first thing of one row."""
    metrics, options = map(text_of, REFERENCES)
    metrics = metrics.partition("<!-- table -->")[2]
    assert re.findall(r"^\| `(\w+)`", metrics, re.MULTILINE) == [m.name for m in METRICS]
    keys = [key for row in options.splitlines() for key in re.findall(r"^\|.*\| `(.+)` \|", row)]
    assert keys == [option.key for option in OPTIONS]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """Every relative link names a file, and a heading of it where it names one."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(document)):
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_metrics_that_are_named_exist(document: str) -> None:
    """A document names no metric that is not exported."""
    named = set(re.findall(r"(?<![\w:/.{])(kepler_\w+)\b(?![/.*:])", text_of(document)))
    assert named - {metric.name for metric in METRICS} - {"kepler_ebpf", "kepler_ebpf_"} == set()


@pytest.mark.parametrize("document", ["README.md", "kepler_ebpf/README.md"])
def test_paths_that_are_named_exist(document: str) -> None:
    """The tables of the tree and the steps of the contributors name what is there."""
    folder = (ROOT / document).parent
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?)`", text_of(document)))
    assert [path for path in named if not any((at / path).exists() for at in (folder, ROOT))] == []


def test_every_room_is_in_the_map() -> None:
    """The map of the tree has each package of the program and each folder beside it."""
    rooms = [path.parent for path in ROOT.glob("kepler_ebpf/*/__init__.py")]
    folders = [ROOT / name for name in ("bpf", "deploy", "scripts", "tests")]
    for room in (*rooms, *folders):
        assert f"| `{room.relative_to(ROOT)}/` |" in README


def test_opens_with_the_two_commands() -> None:
    """The first code block runs the program and the tests."""
    commands = README.partition("```sh\n")[2].partition("```")[0].split()
    assert {"scripts/run", "scripts/test"} <= set(commands)


def test_queries_are_valid(tmp_path: Path) -> None:
    """Prometheus accepts each query of the README."""
    block = README.partition("```promql\n")[2].partition("```")[0]
    code = re.sub(r"^#.*\n", "", block, flags=re.MULTILINE)
    queries = re.split(r"\n+(?=\S)", code.strip())
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    assert rules
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "readme", "rules": rules}]})
    )
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
