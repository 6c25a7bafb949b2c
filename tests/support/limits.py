"""Limits of a program that runs, which only its own user may set here."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TITLES = {"nofile": "Max open files", "as": "Max address space"}


def set_limit(pid: int, kind: str, soft: int | str) -> None:
    """Set the soft limit of one of TITLES, as the user of the process."""
    user = Path(f"/proc/{pid}").stat().st_uid
    who = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    what = ("prlimit", f"--pid={pid}", f"--{kind}={soft}:")
    subprocess.run(["setpriv", *who, *what], check=True)


@contextmanager
def soft_limit(pid: int, kind: str, soft: int) -> Iterator[None]:
    """Set a soft limit for a while."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    (before,) = re.findall(rf"^{TITLES[kind]}\s+(\S+)", limits, re.MULTILINE)
    set_limit(pid, kind, soft)
    try:
        yield
    finally:
        set_limit(pid, kind, before)
