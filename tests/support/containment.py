"""Commands in a container of runc's that has this host's files, processes and network.

As a program: `containment.py BUNDLE COMMAND…` becomes the container's runtime, so that it stands
before a command as any wrapper does.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OWN_MOUNTS = {"/dev", "/proc", "/sys"}


@contextmanager
def contained(
    folder: Path,
    capabilities: Sequence[str],
    profile: dict[str, Any] | None = None,
    user: int = 0,
) -> Iterator[tuple[str, ...]]:
    """Give the wrapper that runs one command with these rights; *folder* is its bundle.

    Capabilities are named without CAP_, as in Kubernetes; *profile* is a seccomp profile. Another
    user than 0 has them as from systemd: ambient. What is left of the container is removed.
    """
    folder.mkdir()
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    spec = json.loads((folder / "config.json").read_text())
    named = [f"CAP_{name}" for name in capabilities]
    kinds = ("bounding", "effective", "permitted", *(("inheritable", "ambient") if user else ()))
    spec["process"] |= {
        "terminal": False,
        "env": [f"{name}={value}" for name, value in os.environ.items()],
        "capabilities": dict.fromkeys(kinds, named),
        "user": {"uid": user, "gid": user},
        "noNewPrivileges": True,
    }
    spec["mounts"] = [*_host_files(folder / "rootfs"), *_own_mounts(spec["mounts"])]
    spec["linux"] |= {
        "namespaces": [{"type": "mount"}],
        "cgroupsPath": f"/kepler-ebpf-test-contained-{os.getpid()}",
        "maskedPaths": [],
        "readonlyPaths": [],
        **({"seccomp": profile} if profile else {}),
    }
    spec.pop("hostname")
    (folder / "config.json").write_text(json.dumps(spec))
    try:
        yield (sys.executable, str(Path(__file__).resolve()), str(folder))
    finally:
        subprocess.run([*_runc(folder), "delete", "--force", _name(folder)], check=True)


def _host_files(rootfs: Path) -> Iterator[dict[str, Any]]:
    """Lay out *rootfs* like this host's root; yield the mounts that fill it."""
    rootfs.mkdir()
    for path in Path("/").iterdir():
        here = rootfs / path.name
        if path.is_symlink():
            here.symlink_to(path.readlink())
        elif path.is_dir() and str(path) not in OWN_MOUNTS:
            here.mkdir()
            yield _bind(str(path), "rw" if path.name == "tmp" else "ro")


def _own_mounts(mounts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the runtime's own /dev, and this host's /proc and /sys, which are all of them."""
    yield from (each for each in mounts if each["destination"] in {"/dev", "/dev/shm"})  # noqa: S108
    # As runtimes mount it: /proc/PID/mem is written to by who may.
    yield _bind("/proc", "rw")
    yield _bind("/sys", "ro")


def _bind(path: str, mode: str) -> dict[str, Any]:
    options = ["rbind", "rprivate", mode]
    return {"destination": path, "type": "none", "source": path, "options": options}


def _runc(folder: Path) -> list[str]:
    return ["runc", "--root", str(folder / "state")]


def _name(folder: Path) -> str:
    return f"kepler-ebpf-{folder.stat().st_ino}"


def main(bundle: Path, command: list[str]) -> None:
    """Become runc, which runs *command* in *bundle*."""
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"cwd": str(Path.cwd()), "args": [shutil.which(command[0]), *command[1:]]}
    (bundle / "config.json").write_text(json.dumps(spec))
    run = [*_runc(bundle), "run", "--bundle", str(bundle), _name(bundle)]
    os.execvp("runc", run)  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
