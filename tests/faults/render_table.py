"""Prints the table of faults; with ``--write`` writes it into README.md."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "support"), str(FOLDER.parents[1])]
from table import lines  # noqa: E402

BEGIN, END = "<!-- table -->\n", "<!-- /table -->"
PAGE = FOLDER / "README.md"


def rendered() -> str:
    """Return the page with the table of today."""
    before, begin, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + "\n".join(lines()) + "\n" + end + after


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(rendered(), "utf-8")
    else:
        print(*lines(), sep="\n")  # noqa: T201
