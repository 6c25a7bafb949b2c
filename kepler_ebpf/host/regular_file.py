"""Files of the host, opened and read without a wait.

The kernel's files in sysfs and procfs and those of container runtimes are regular files. Anything
else, such as a FIFO in a tree that was mounted by mistake, is an error and not an endless wait.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(path: str | Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its descriptor; OSError for anything else.

    Without *follow* a symbolic link is an OSError too.
    """
    fd = os.open(path, _OPEN_FLAGS if follow else _OPEN_FLAGS | os.O_NOFOLLOW)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_regular(path: str | Path, encoding: str = "ascii", errors: str = "strict") -> str:
    """Read a regular file whole; OSError where that fails, UnicodeDecodeError for other text."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read().decode(encoding, errors)
