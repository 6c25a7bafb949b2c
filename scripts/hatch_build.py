"""Hatch's build hook: the wheel carries the BPF programs, compiled and as source.

The object is for CO-RE (no compiler on the node), the source for bcc. An editable install
compiles too, but the files stay in bpf/ of the checkout.
"""

import subprocess
import sys
from pathlib import Path
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


def compile_object(root: Path) -> None:
    """Run scripts/build-bpf, which says itself what is missing."""
    result = subprocess.run(["/bin/sh", root / "scripts" / "build-bpf"], check=False)
    if result.returncode != 0:
        sys.exit("kepler-ebpf: the BPF programs were not compiled, so there is nothing to package")


def wheel_files(bpf: Path) -> dict[str, str]:
    """Map each file of bpf/ that is needed at run time to its place in the wheel."""
    paths = [*bpf.glob("*.[ch]"), bpf / "kepler.bpf.o"]
    return {str(path): f"kepler_ebpf/bpf/{path.name}" for path in sorted(paths)}
