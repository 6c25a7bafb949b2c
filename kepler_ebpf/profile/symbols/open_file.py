"""Files that are read at an offset while their names may be needed."""

from __future__ import annotations

import os

_HIGHEST_OFFSET = 2**62


class OpenFile:
    """A file, closed when nothing refers to it any more."""

    def __init__(self, fd: int) -> None:
        """Own *fd*."""
        self.fd = fd

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it now; there is nothing to read any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def identity(self) -> bytes:
        """Device and inode, as /proc shows them: of no other file as long as this is open."""
        found = os.fstat(self.fd)
        return b"%02x:%02x %d" % (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)

    def read(self, offset: int, size: int) -> bytes:
        """Read up to *size* bytes at *offset*; b"" where that fails."""
        if offset > _HIGHEST_OFFSET:
            return b""
        try:
            return os.pread(self.fd, size, offset)
        except OSError:
            return b""
