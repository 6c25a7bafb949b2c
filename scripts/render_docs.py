"""Writes the generated tables of the reference pages: every metric and every option.

Run it after a change of either; a test compares the pages with its output. Takes the checkout to
write to; without one, this.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from kepler_ebpf.config.option import Option
from kepler_ebpf.config.options import OPTIONS
from kepler_ebpf.exporters.catalog import METRICS
from kepler_ebpf.exporters.metric import Metric

METRICS_HEAD = "| metric | type | level | labels | meaning |\n|---|---|---|---|---|"
OPTIONS_HEAD = "| flag | YAML key | default | meaning |\n|---|---|---|---|"


def metric_row(metric: Metric) -> str:
    """Return the table row of a metric."""
    labels = ", ".join(metric.labels)
    return f"| `{metric.name}` | {metric.type} | {metric.level} | {labels} | {metric.help} |"


def option_row(option: Option) -> str:
    """Return the table row of an option."""
    default = option.default if isinstance(option.default, str) else ", ".join(option.default)
    default = "the host's name" if option.field == "node_name" else default
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    return f"| {flags} | `{option.key}` | {default} | {option.help} |"


TABLES = {
    "kepler_ebpf/exporters/README.md": (METRICS_HEAD, *map(metric_row, METRICS)),
    "kepler_ebpf/config/README.md": (OPTIONS_HEAD, *map(option_row, OPTIONS)),
}
"""The lines of the one table that each page has between its two markers."""

BEGIN, END = "<!-- table -->\n", "<!-- /table -->"


def rendered(checkout: Path) -> Iterator[tuple[Path, str]]:
    """Yield each page of *checkout* with the text that it must hold."""
    for name, lines in TABLES.items():
        before, begin, rest = (checkout / name).read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        table = "\n".join(lines)
        yield checkout / name, f"{before}{begin}{table}\n{end}{after}"


def main(arguments: list[str]) -> None:
    """Write the pages of the checkout that *arguments* name."""
    checkout = Path(__file__).resolve().parent.parent
    for path, text in rendered(Path(*arguments) if arguments else checkout):
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
