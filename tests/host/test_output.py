"""What a result is written to, where it has no room, no reader and no right."""

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kepler_ebpf.errors import SetupError
from kepler_ebpf.host.output import Output, has_reader

GIVE_UP_S = 30.0


@pytest.mark.parametrize("path", ["/no/such/folder/x", "/", "/dev/full"])
def test_what_cannot_be_written_is_named(path: str) -> None:
    """A folder that is missing, a folder, and a disk without room each have their reason."""
    with (
        pytest.raises(SetupError, match=f"^cannot write to {path}: .+\n.+"),
        Output(path) as output,
    ):
        output.put("text")


def test_old_content_stays_until_there_is_something_new(tmp_path: Path) -> None:
    """Where nothing is written, an old file is as it was, and a new one is gone."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("a long old text")
    with Output(str(old)), Output(str(new)):
        pass
    assert (old.read_text(), new.exists()) == ("a long old text", False)
    with Output(str(old)) as output:
        output.put("row\n")
        output.put("row\n")
    assert old.read_text() == "row\nrow\n"


def test_half_a_result_is_not_left_in_a_file(tmp_path: Path) -> None:
    """Where the disk is full, what was written as a whole stays; the error comes again."""
    code = (
        "from kepler_ebpf.errors import SetupError\n"
        "from kepler_ebpf.host.output import Output\n"
        "with Output('x') as output:\n"
        "    output.put('row\\n')\n"
        "    for text in ('y' * 100_000, 'row\\n'):\n"
        "        try: output.put(text)\n"
        "        except SetupError as error: print(error.problem)\n"
        "print(open('x').read(), end='')"
    )
    script = 'mount -t tmpfs -o size=8k none . && cd "$PWD" && "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=GIVE_UP_S,
    )
    problem = "cannot write to x: No space left on device\n"
    assert done.stdout == f"{problem}{problem}row\n"


def test_nothing_is_lost_where_the_output_does_not_wait() -> None:
    """A pipe that another program has made non-blocking is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "x" * 300_000
    with Output(writer, "a pipe") as output:
        thread = threading.Thread(target=output.put, args=(text,))
        thread.start()
        read = b""
        while len(read) < len(text):
            assert select.select([reader], (), (), GIVE_UP_S)[0]
            read += os.read(reader, 65536)
        thread.join(GIVE_UP_S)
    assert read == text.encode()
    os.close(reader)
    os.close(writer)


def test_reader_that_has_gone_is_no_error() -> None:
    """What it does not take goes nowhere; a file always has a reader."""
    reader, writer = os.pipe()
    with Output(writer, "a pipe") as output, Output(os.devnull) as nowhere:
        assert has_reader(output)
        os.close(reader)
        output.put("text")
        assert not has_reader(output)
        assert has_reader(nowhere)
    os.close(writer)


def test_descriptor_stays_open_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    """It is its owner's, who may have written to it."""
    with (tmp_path / "x").open("w+") as file:
        file.write("theirs\n")
        file.flush()
        with Output(file.fileno()) as output:
            output.put("ours\n")
        file.seek(0)
        assert file.read() == "theirs\nours\n"
