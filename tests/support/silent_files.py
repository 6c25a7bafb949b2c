"""A file system that stops answering: FUSE, served by a thread of the test.

It has one directory, with files of one page that have numbers for names. A write to one of them
lasts until the file system is aborted, and so does the look-up of any other name.
"""

import ctypes
import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV = 2, 4
MNT_DETACH = 2
PAGE = 4096

ROOT_INO = 1
DIRECTORY_MODE, FILE_MODE = 0o40777, 0o100666

IN_HEADER, OUT_HEADER = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 17, 18, 25, 26, 27, 28, 29
INTERRUPT, BATCH_FORGET = 36, 42
WITHOUT_ANSWER = {FORGET, INTERRUPT, BATCH_FORGET}
ENOSYS = 38
FOREVER_S = 1 << 30
GIVE_UP_S = 30.0


def attributes(ino: int) -> bytes:
    """Return a ``struct fuse_attr``."""
    mode = DIRECTORY_MODE if ino == ROOT_INO else FILE_MODE
    return struct.pack("=6Q10I", ino, PAGE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


class SilentFiles:
    """The mounted file system."""

    def __init__(self, folder: Path) -> None:
        """Mount it at *folder*, and serve it."""
        self.folder = folder
        self._files = map(str, count())
        self.waits = threading.Event()
        """Set when somebody waits for what is not answered."""
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._end = os.eventfd(0)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        mounted = LIBC.mount(
            b"silent", os.fsencode(folder), b"fuse", MS_NOSUID | MS_NODEV, options.encode()
        )
        assert mounted == 0, os.strerror(ctypes.get_errno())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def next_file(self) -> Path:
        """Return the path of a file that nobody has used."""
        return self.folder / next(self._files)

    def abort(self) -> None:
        """Let go of all who wait: they get an error."""
        if self._thread.is_alive():
            os.eventfd_write(self._end, 1)
            self._thread.join()
            LIBC.umount2(os.fsencode(self.folder), MNT_DETACH)
            os.close(self._fd)
            os.close(self._end)

    def _serve(self) -> None:
        while self._end not in select.select((self._fd, self._end), (), ())[0]:
            try:
                request = os.read(self._fd, 1 << 20)
            except OSError:  # It was interrupted meanwhile.
                continue
            _, opcode, unique, ino, *_ = IN_HEADER.unpack_from(request)
            name = request[IN_HEADER.size :].rstrip(b"\0")
            if opcode == WRITE or (opcode == LOOKUP and not name.isdigit()):
                self.waits.set()
            elif opcode not in WITHOUT_ANSWER:
                answer = self._answer(opcode, int(name) + 2 if opcode == LOOKUP else ino)
                error = -ENOSYS if answer is None else 0
                body = answer or b""
                os.write(
                    self._fd, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body
                )

    @staticmethod
    def _answer(opcode: int, ino: int) -> bytes | None:
        """Return the answer to a request, None for one that is not supported."""
        answers = {
            INIT: struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0),
            LOOKUP: struct.pack("=QQQQII", ino, 0, FOREVER_S, FOREVER_S, 0, 0) + attributes(ino),
            GETATTR: struct.pack("=QII", FOREVER_S, 0, 0) + attributes(ino),
            SETATTR: struct.pack("=QII", FOREVER_S, 0, 0) + attributes(ino),
            READ: bytes(PAGE),
            OPEN: struct.pack("=QII", 1, 0, 0),
            OPENDIR: struct.pack("=QII", 1, 0, 0),
            STATFS: bytes(80),
            RELEASE: b"",
            RELEASEDIR: b"",
            FLUSH: b"",
        }
        return answers.get(opcode)


@contextmanager
def silent_files(folder: Path) -> Iterator[SilentFiles]:
    """Mount a file system that stops answering, for a test."""
    folder.mkdir()
    files = SilentFiles(folder)
    try:
        yield files
    finally:
        files.abort()


HOLD_LOCK = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
READ, WRITE, SHARED, PRIVATE, FIXED, ANONYMOUS, PAGE = 1, 2, 1, 2, 16, 32, 4096
def live():
    while True:
        time.sleep(0.02)
open("/proc/self/comm", "w").write("qemu-kvm")
file = os.open(sys.argv[1], os.O_RDWR)
page = libc.mmap(None, PAGE, READ | WRITE, SHARED, file, 0)
ctypes.memset(page, 1, 1)
threading.Thread(target=live, daemon=True).start()
print(flush=True)
libc.mmap(page, PAGE, READ, PRIVATE | FIXED | ANONYMOUS, -1, 0)
"""
"""Replaces a page that it has written to: it holds its mmap lock until that is in the file."""


@contextmanager
def holding_its_lock(files: SilentFiles) -> Iterator[int]:
    """Run a process that calls itself qemu-kvm, and whose command line nobody gets to read."""
    command = [sys.executable, "-c", HOLD_LOCK, str(files.next_file())]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(files.abort)
        stack.callback(process.kill)
        files.waits.clear()
        assert process.stdout
        process.stdout.readline()
        assert files.waits.wait(GIVE_UP_S)
        yield process.pid
