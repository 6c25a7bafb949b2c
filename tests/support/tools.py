"""Programs that are in no distribution, which scripts/test puts into a cache."""

import os
import shutil
from pathlib import Path


def tool(name: str) -> str:
    """Return the path of a program: in PATH, else where scripts/test has put it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kepler-ebpf"
    built = [path for pattern in (f"*/{name}", f"*/bin/{name}") for path in cache.glob(pattern)]
    folders = [str(path.parent) for path in sorted(built)]
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *folders]))
    assert found, f"there is no {name}: scripts/test gets it"
    return found
