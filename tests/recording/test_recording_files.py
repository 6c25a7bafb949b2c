"""Where a recording is written to: nobody else's file, bounded, and whole up to the last batch."""

import errno
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from queue import Queue

import pytest
from recordings import HEADER, batches_of, same, write

from kepler_ebpf.errors import SetupError
from kepler_ebpf.recording import files
from kepler_ebpf.recording.files import PartFile, Target
from kepler_ebpf.recording.frames import State
from kepler_ebpf.recording.reader import open_recording
from kepler_ebpf.recording.schema import Mark
from kepler_ebpf.recording.writer import Taken, Writer

UNBOUNDED = 1 << 60
GIVE_UP_S = 30.0
NAMES = {"cgroup": {7: {"path": "/here"}}}


def target(path, **bounds):
    """Return a target without bounds but these."""
    given = {"max_bytes": UNBOUNDED, "part_bytes": UNBOUNDED, "part_s": 1e9, "keep_s": 1e9}
    return Target(path=path, is_directory=path.is_dir(), replaces=False, **(given | bounds))


def put(writer, batches, names=None, gone=None):
    """Have batches written, with *names* in the first of them, and those *gone* after it."""
    for number, batch in enumerate(batches):
        ends_s = [0.0] * len(batch.intervals)
        mark = Mark(intervals=number)
        of_first = (names or {}, gone or []) if number == 0 else ({}, [])
        writer.put(Taken(batch, ends_s, *of_first, mark))


def read(path):
    """Return a recording that was read, and its batches."""
    recording = open_recording(path)
    return recording, [batch.measured for batch in recording.batches()]


# --- files ------------------------------------------------------------------------------------


def test_file_is_for_its_owner_alone(tmp_path):
    """Recordings show what everybody runs."""
    write(tmp_path / "r", batches_of(1, 1))
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600


def test_what_exists_is_kept(tmp_path):
    """A file, and a link to nowhere, are in the way; the error says what to do."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(SetupError, match="exists") as error:
            target(tmp_path / name).prepare()
        assert "--force" in error.value.remedy
        with pytest.raises(SetupError, match="exists"):
            PartFile(tmp_path / name, HEADER)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_replacing_follows_no_link(tmp_path):
    """What a link points to is another's: the link itself is replaced."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    os.link(tmp_path / "theirs", tmp_path / "hard")
    for name in ("link", "hard"):
        PartFile(tmp_path / name, HEADER, replaces=True).end(Mark(is_complete=True))
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_place_that_cannot_be_written_to_is_an_error(tmp_path):
    """It names the place."""
    for path in (tmp_path / "no" / "r", tmp_path):
        with pytest.raises(SetupError, match=str(path)):
            PartFile(path, HEADER)
    (tmp_path / "file").touch()
    below = replace(target(tmp_path), path=tmp_path / "file" / "below")
    with pytest.raises(SetupError, match="below"):
        below.prepare()


FULL = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from recordings import batches_of, same, write
from kepler_ebpf.errors import SetupError
from kepler_ebpf.recording.reader import open_recording
batches = batches_of(1, 200)
path = Path(sys.argv[1])
try:
    write(path / "r", batches)
except SetupError as error:
    print(error.problem)
recording = open_recording(path / "r")
found = [batch.measured for batch in recording.batches()]
print(recording.state.name, 0 < len(found) < 200)
print(all(same(one, other) for one, other in zip(batches, found)))
print((path / "r").stat().st_size == recording.endings[0].whole_bytes)
"""


def test_full_disk_ends_at_the_last_whole_batch(tmp_path):
    """A real one: what was written stays, and nothing of the batch that had no room."""
    mount = 'mount -t tmpfs -o size=256k none "$1" && shift && exec "$@"'
    python = (sys.executable, "-c", FULL, str(tmp_path), *sys.path)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), *python],
        capture_output=True,
        text=True,
        check=True,
    )
    problem, state, is_same, is_cut = done.stdout.splitlines()
    assert problem == f"cannot write {tmp_path}/r: No space left on device"
    assert (state, is_same, is_cut) == ("CUT True", "True", "True")


# --- the writer -------------------------------------------------------------------------------


def test_writer_writes_all(tmp_path):
    """In order, and ends the file."""
    batches = batches_of(1, 20)
    writer = Writer(target(tmp_path / "r"), HEADER)
    put(writer, batches)
    writer.close()
    recording, found = read(tmp_path / "r")
    assert all(same(one, other) for one, other in zip(batches, found, strict=True))
    assert (recording.state, writer.is_full, writer.error) == (State.COMPLETE, False, None)
    assert recording.endings[0].mark.intervals == 19


def test_file_ends_at_its_greatest_size(tmp_path):
    """It is complete, and not larger."""
    writer = Writer(target(tmp_path / "r", max_bytes=100_000), HEADER)
    put(writer, batches_of(1, 40))
    writer.close()
    recording, found = read(tmp_path / "r")
    assert writer.is_full
    assert 0 < len(found) < 40
    assert recording.state is State.COMPLETE
    assert (tmp_path / "r").stat().st_size <= 100_000


def test_failure_is_kept_and_blocks_nobody(tmp_path, monkeypatch):
    """What waits is dropped; the error is the writer's to tell."""
    writer = Writer(target(tmp_path / "r"), HEADER)

    def fail(*_):
        raise SetupError("it broke", "mend it")

    monkeypatch.setattr(PartFile, "write", fail)
    put(writer, batches_of(1, 40))
    writer.close()
    assert writer.has_ended
    assert writer.error
    assert writer.error.problem == "it broke"


def test_parts_hold_all_and_are_bounded(tmp_path):
    """One after the other; the oldest are removed beyond the size of all."""
    batches = batches_of(1, 60)
    writer = Writer(target(tmp_path, part_bytes=30_000, max_bytes=150_000), HEADER)
    put(writer, batches)
    writer.close()
    recording, found = read(tmp_path)
    assert recording.state is State.COMPLETE
    assert len(recording.parts) == len(writer.paths) > 2
    assert recording.parts[0].name != "20261126T130303Z-0001.arrows"
    assert sum(part.stat().st_size for part in recording.parts) <= 150_000
    kept = batches[-len(found) :]
    assert all(same(one, other) for one, other in zip(kept, found, strict=True))


def test_old_parts_are_removed(tmp_path):
    """So long after their end."""
    writer = Writer(target(tmp_path, part_s=0.0, keep_s=0.0), HEADER)
    put(writer, batches_of(1, 10))
    writer.close()
    assert len(list(tmp_path.iterdir())) <= 2


def test_each_part_has_the_names_of_what_goes_on(tmp_path):
    """And not of what has ended long ago."""
    for gone, last in (([], {7}), ([("cgroup", 7)], set())):
        header = replace(HEADER, recording=f"r{len(gone)}")
        writer = Writer(target(tmp_path, part_s=0.0), header)
        put(writer, batches_of(1, 5), NAMES, gone)
        writer.close()
        recording, _ = read(max(tmp_path.glob(f"{header.recording}-*")))
        assert recording.names.cgroups.keys() == last


def test_written_is_soon_on_the_disk(tmp_path, monkeypatch):
    """Not with each batch, but again and again, and in the end."""
    synced: Queue[int] = Queue()
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.put((tmp_path / "r").stat().st_size))
    monkeypatch.setattr(files, "SYNC_S", 0.01)
    part = write(tmp_path / "r", batches_of(1, 3), ends=False)
    while synced.get(timeout=GIVE_UP_S) < part.size_bytes:
        pass
    monkeypatch.setattr(files, "SYNC_S", 1e6)
    part.end(Mark(is_complete=True))
    part.close()
    assert synced.queue[-1] == part.size_bytes


def test_slow_disk_delays_no_batch(tmp_path, monkeypatch):
    """What a kill cannot take is in the file while the disk is still busy with what was before."""
    is_stuck, goes_on = threading.Event(), threading.Event()

    def stuck(_):
        is_stuck.set()
        goes_on.wait(GIVE_UP_S)

    monkeypatch.setattr(os, "fdatasync", stuck)
    monkeypatch.setattr(files, "SYNC_S", 0.01)
    writer = Writer(target(tmp_path / "r"), HEADER)
    assert is_stuck.wait(GIVE_UP_S)
    put(writer, batches_of(1, 20))
    until_s = time.monotonic() + GIVE_UP_S
    while len(read(tmp_path / "r")[1]) < 20:
        assert time.monotonic() < until_s
    goes_on.set()
    writer.close()


def test_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    """Though it fails when all was written."""

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    writer = Writer(target(tmp_path / "r"), HEADER)
    put(writer, batches_of(1, 2))
    writer.close()
    assert writer.error
    assert str(tmp_path / "r") in writer.error.problem
