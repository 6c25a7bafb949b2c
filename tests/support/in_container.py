"""Runs a command in a container of runc, with namespaces and mounts as runtimes make them.

    unshare --mount python in_container.py FOLDER COMMAND...

Its root is this host's, so that the command is found; /proc, /sys and the cgroups are its own, as
where an operator forgot to share the host's. Capabilities are all of this process's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

CAPABILITIES = [
    *("CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"),
]


def main() -> None:
    """Write the bundle into the folder named first, and become its runtime."""
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    (folder / "root").mkdir()
    subprocess.run(["mount", "--rbind", "/", folder / "root"], check=True)
    for mounted in ("dev", "proc", "sys"):
        subprocess.run(["umount", "--recursive", "--lazy", folder / "root" / mounted], check=True)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    spec = json.loads((folder / "config.json").read_text())
    kinds = ("bounding", "effective", "permitted")
    spec["process"] |= {
        "terminal": False,
        "args": command,
        "cwd": str(Path.cwd()),
        "env": [f"{name}={value}" for name, value in os.environ.items()],
        "capabilities": dict.fromkeys(kinds, CAPABILITIES),
        "rlimits": [],
    }
    spec["root"] = {"path": "root", "readonly": False}
    # The loopback of the host, so that a test reaches what is served.
    spec["linux"]["namespaces"] = [
        each for each in spec["linux"]["namespaces"] if each["type"] != "network"
    ]
    (folder / "config.json").write_text(json.dumps(spec))
    os.chdir(folder)
    runc = ("runc", "--root", str(folder / "state"), "run", f"in-container-{os.getpid()}")
    os.execvp(runc[0], runc)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
