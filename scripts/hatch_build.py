"""Hatch's build hook: the wheel carries the BPF programs, and the revision it was made from.

The object is for CO-RE (no compiler on the node), the source for bcc. An editable install
compiles too, but the files stay in bpf/ of the checkout, and its revision may change: it has none.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfBuildHook(BuildHookInterface[BuilderConfig]):
    """Compiles bpf/kepler.bpf.o and lays bpf/ into kepler_ebpf/bpf/ of the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run before the files are collected; leaves the build with a message on a failure."""
        root = Path(self.root)
        compile_object(root)
        if version != "editable":
            build_data["force_include"] |= wheel_files(root / "bpf")
            self.temporary = TemporaryDirectory()
            path = Path(self.temporary.name, "source.json")
            path.write_text(json.dumps(source(root)))
            build_data["force_include"][str(path)] = "kepler_ebpf/source.json"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Run after the files were packed."""
        del build_data, artifact_path
        if version != "editable":
            self.temporary.cleanup()


def compile_object(root: Path) -> None:
    """Run scripts/build-bpf, which says itself what is missing."""
    result = subprocess.run(["/bin/sh", root / "scripts" / "build-bpf"], check=False)
    if result.returncode != 0:
        sys.exit("kepler-ebpf: the BPF programs were not compiled, so there is nothing to package")


def wheel_files(bpf: Path) -> dict[str, str]:
    """Map each file of bpf/ that is needed at run time to its place in the wheel."""
    paths = [*bpf.glob("*.[ch]"), bpf / "kepler.bpf.o"]
    return {str(path): f"kepler_ebpf/bpf/{path.name}" for path in sorted(paths)}


def source(root: Path) -> dict[str, str]:
    """Return revision and branch: the environment's, else those of the repository in *root*.

    Both are "" where there is none. A revision with changes ends with "-dirty".
    """
    revision = git(root, "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty")
    return {
        "revision": os.environ.get("KEPLER_EBPF_REVISION") or revision,
        "branch": os.environ.get("KEPLER_EBPF_BRANCH") or git(root, "branch", "--show-current"),
    }


def git(root: Path, *arguments: str) -> str:
    """Return what git prints; "" where it fails, or the repository is not *root*'s own."""
    if not (root / ".git").exists():
        return ""
    command = ("git", "-C", str(root), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
