"""Stacks as the kernel side writes them become frames in order, each kept once."""

import numpy as np
import pytest

from kepler_ebpf.kernel.layout import FRAME_IN_FILE, MAX_FRAMES, STACK_FRAME
from kepler_ebpf.kernel.samples import HEAD, Batch
from kepler_ebpf.profile import sampler as module
from kepler_ebpf.profile.frames import (
    AT_ADDRESS,
    IN_KERNEL,
    NOT_KEPT,
    SPECIAL,
    SPECIAL_FRAMES,
    processes_of,
)
from kepler_ebpf.profile.sampler import Sampler

ID = bytes(range(1, 21))


class Source:
    """Samples that a test has made."""

    def __init__(self):
        self.batches = []

    def follow_cpus(self):
        """Nothing to follow."""

    def take(self):
        """Return the next batch."""
        return self.batches.pop(0)


def sample(user=(), kernel=(), *, epoch=0, has_user=1, tgid=7):
    """Return a sample: user frames, innermost first, are offsets in a file or (address,)."""
    frames = np.zeros(len(user), STACK_FRAME)
    for frame, at in zip(frames, user, strict=True):
        in_file = not isinstance(at, tuple)
        frame["kind"] = FRAME_IN_FILE if in_file else AT_ADDRESS
        frame["build_id"], frame["offset"] = (ID, at) if in_file else (b"", at[0])
    text = np.array(kernel, "<u8").tobytes() + frames.tobytes()
    head = np.zeros(1, HEAD)
    head["tgid"], head["process_start_ns"], head["epoch"] = tgid, 70 + tgid, epoch
    head["has_user"], head["kernel_bytes"] = has_user, 8 * len(kernel)
    head["user_bytes"] = frames.nbytes
    return head, text


def taken(sampler, source, *samples, epoch=9):
    """Return what the sampler makes of samples."""
    texts = [text for _, text in samples]
    heads = [head for head, _ in samples]
    ends = np.cumsum([len(text) for text in texts])
    offsets = ends - [len(text) for text in texts]
    source.batches.append(
        Batch(
            np.concatenate([*heads, np.zeros(0, HEAD)]), b"".join(texts), offsets.astype(np.int64)
        )
    )
    return sampler.take(epoch)


@pytest.fixture
def source():
    """Give a source of samples."""
    return Source()


@pytest.fixture
def sampler(source):
    """Give a sampler of that source."""
    return Sampler(source)


def shown(sampler, stack):
    """Return the frames of a stack as (kind, offset), with the names of special ones."""
    frames = sampler.frames[sampler.stacks[stack]]
    return [
        SPECIAL_FRAMES[offset] if kind == SPECIAL else (kind, offset)
        for kind, offset in zip(frames["kind"].tolist(), frames["offset"].tolist(), strict=True)
    ]


FILE, KERNEL = FRAME_IN_FILE, IN_KERNEL
TOP = 0xFFFFFFFF81000000


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        (sample((10, 20, 30)), [(FILE, 29), (FILE, 19), (FILE, 10)]),
        (
            sample((10, 20), (TOP, TOP + 9)),
            [(FILE, 19), (FILE, 10), (KERNEL, TOP + 8), (KERNEL, TOP)],
        ),
        (sample((), (TOP,)), ["[no user stack]", (KERNEL, TOP)]),
        (sample((), (TOP,), has_user=0), [(KERNEL, TOP)]),
        (sample(()), ["[missed stack]"]),
        (sample((), has_user=0), ["[missed stack]"]),
        (
            sample([5] * MAX_FRAMES),
            ["[truncated stack]", *[(FILE, 4)] * (MAX_FRAMES - 1), (FILE, 5)],
        ),
    ],
)
def test_stack_is_outermost_first(sampler, source, of, wanted):
    """User space is below the kernel; callers are where they called; what is missing is said."""
    (stack,) = taken(sampler, source, of).stack.tolist()
    assert shown(sampler, stack) == wanted


def test_equal_stacks_are_one(sampler, source):
    """A stack has one number, whichever task it was seen in."""
    one, other = sample((10, 20), tgid=7), sample((10, 20), tgid=8)
    first, again, another = taken(sampler, source, one, other, sample((10, 21))).stack.tolist()
    (later,) = taken(sampler, source, one).stack.tolist()
    assert first == again == later != another


def test_addresses_are_of_their_process(sampler, source):
    """Code in no file is told apart by process, and counted."""
    stacks = taken(
        sampler, source, sample(((99,),), tgid=7), sample(((99,),), tgid=8)
    ).stack.tolist()
    frames = sampler.frames[[int(sampler.stacks[stack][0]) for stack in stacks]]
    assert processes_of(frames)[["tgid", "start_ns"]].tolist() == [(7, 77), (8, 78)]
    assert sampler.frames_at_addresses == 2


def test_samples_of_the_running_interval_wait(sampler, source):
    """A sample belongs to the interval in which its slice is charged, whenever it is read."""
    first = taken(sampler, source, sample((1,), epoch=4), sample((2,), epoch=5), epoch=5)
    second = taken(sampler, source, sample((3,), epoch=5), epoch=6)
    assert first.heads["epoch"].tolist() == [4]
    assert second.heads["epoch"].tolist() == [5, 5]


@pytest.mark.parametrize("limit", ["MAX_KEPT_STACKS", "MAX_KEPT_FRAMES"])
def test_stacks_and_frames_are_bounded(sampler, source, monkeypatch, limit):
    """Of more frames or stacks than there is room for, later ones are told and not kept."""
    monkeypatch.setattr(module, limit, 8)
    stacks = taken(sampler, source, *(sample((number,)) for number in range(1, 9))).stack.tolist()
    assert [shown(sampler, stack) for stack in stacks[-2:]] == [["[not kept]"]] * 2
    assert len(sampler.frames) <= 14
    assert len(sampler.stacks) <= 9
    assert stacks[0] != NOT_KEPT
