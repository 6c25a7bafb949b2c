"""Samples of the kernel side as numbered stacks of numbered frames, each kept once.

A frame is kept as 32 bytes, of dtype ``kernel.layout.STACK_FRAME``: its name is looked up when
everything is over, once for each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kepler_ebpf.kernel.layout import FRAME_IN_FILE, MAX_FRAMES, STACK_FRAME
from kepler_ebpf.kernel.samples import Batch, Samples
from kepler_ebpf.model.arrays import Bools, Ints, Records
from kepler_ebpf.profile.frames import (
    AT_ADDRESS,
    IN_KERNEL,
    MISSED_STACK,
    NO_USER_STACK,
    NOT_KEPT,
    SPECIAL,
    SPECIAL_FRAMES,
    TRUNCATED_STACK,
    WITH_PROCESS,
    Sampled,
)

MAX_KEPT_FRAMES = MAX_KEPT_STACKS = 1 << 17
"""Whoever runs code chooses how many there are: what comes later is ``[not kept]``."""

_KEY = np.dtype((np.void, STACK_FRAME.itemsize))


class Sampler:
    """Takes samples, interval by interval. Its stacks begin with one of each special frame."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._frames: dict[bytes, int] = {}
        self._stacks: dict[bytes, int] = {}
        special = np.zeros(len(SPECIAL_FRAMES), STACK_FRAME)
        special["kind"], special["offset"] = SPECIAL, range(len(special))
        for number in self._numbers(special)[:, np.newaxis]:
            self._stack_of(number)
        self._later: Sampled | None = None
        self.frames_at_addresses = 0
        """How many frames in user space were in no file that the kernel knew at that instant."""

    def take(self, epoch: int) -> Sampled:
        """Return the samples of intervals that ended before *epoch* began."""
        self._samples.follow_cpus()
        batch = self._samples.take()
        taken = Sampled(batch.heads, self._add(batch))
        if self._later is not None:
            pairs = zip(self._later, taken, strict=True)
            taken = Sampled(*(np.concatenate(pair) for pair in pairs))
        is_due = taken.heads["epoch"] < epoch
        self._later = Sampled(*(column[~is_due] for column in taken))
        return Sampled(*(column[is_due] for column in taken))

    @property
    def frames(self) -> Records:
        """The frames that were seen, (N,) of dtype ``layout.STACK_FRAME``, by their number."""
        return np.frombuffer(b"".join(self._frames), STACK_FRAME)

    @property
    def stacks(self) -> Sequence[NDArray[np.int32]]:
        """The stacks that were seen by their number: numbers of frames, the outermost first."""
        return [np.frombuffer(key, np.int32) for key in self._stacks]

    def _add(self, batch: Batch) -> Ints:
        """Return the number of each sample's stack."""
        heads, text = batch.heads, np.frombuffer(batch.stacks, np.uint8)
        kernel = heads["kernel_bytes"].astype(np.int64) // np.dtype("<u8").itemsize
        user = heads["user_bytes"].astype(np.int64) // STACK_FRAME.itemsize
        has_mark, mark = _marks(heads, kernel, user)
        ends = np.cumsum(has_mark + user + kernel)
        begins = ends - has_mark - user - kernel
        numbers = np.empty(ends[-1] if len(ends) else 0, np.int64)
        numbers[begins[has_mark]] = mark[has_mark]
        of_user = _gathered(text, batch.offsets + heads["kernel_bytes"], user, STACK_FRAME)
        self.frames_at_addresses += _name_processes(of_user.values, heads[of_user.sample])
        of_kernel = _gathered(text, batch.offsets, kernel, np.dtype("<u8"))
        frames = np.zeros(len(of_user.values) + len(of_kernel.values), STACK_FRAME)
        frames[: len(of_user.values)] = of_user.values
        in_kernel = frames[len(of_user.values) :]
        in_kernel["kind"], in_kernel["offset"] = IN_KERNEL, of_kernel.values
        # A caller's address is that of its return, which may be in the next function.
        depth = np.concatenate([of_user.depth, of_kernel.depth])
        frames["offset"] -= depth > 0
        last_user = (begins + has_mark + user - 1)[of_user.sample]
        last = np.concatenate([last_user, (ends - 1)[of_kernel.sample]])
        numbers[last - depth] = self._numbers(frames)
        bounds = zip(begins.tolist(), ends.tolist(), strict=True)
        stacks = [self._stack_of(numbers[begin:end]) for begin, end in bounds]
        return np.array(stacks, np.int64)

    def _numbers(self, frames: Records) -> Ints:
        """Return the number of each of *frames*, with those that are new."""
        keys, known = frames.view(_KEY).tolist(), self._frames
        for key in dict.fromkeys(keys):
            if key not in known and len(known) < MAX_KEPT_FRAMES:
                known[key] = len(known)
        return np.array([known.get(key, NOT_KEPT) for key in keys], np.int64)

    def _stack_of(self, numbers: Ints) -> int:
        key = numbers.astype(np.int32).tobytes()
        number = self._stacks.get(key)
        if number is None:
            number = NOT_KEPT
            if len(self._stacks) < MAX_KEPT_STACKS:
                number = self._stacks[key] = len(self._stacks)
        return number


def _marks(heads: Records, kernel: Ints, user: Ints) -> tuple[Bools, Ints]:
    """Return which stacks begin with a special frame, and with which."""
    without_user = (heads["has_user"] > 0) & (user == 0)
    mark = np.where(kernel > 0, NO_USER_STACK, MISSED_STACK)
    mark[user == MAX_FRAMES] = TRUNCATED_STACK
    return without_user | (user + kernel == 0) | (user == MAX_FRAMES), mark


class _Gathered(NamedTuple):
    """Frames of all samples: their values, the sample of each, and its depth, innermost 0."""

    values: Records
    sample: Ints
    depth: Ints


def _gathered(
    text: NDArray[np.uint8], offsets: Ints, counts: Ints, dtype: np.dtype[Any]
) -> _Gathered:
    """Collect *counts* (N,) values from each of *offsets* (N,) of the *text* on."""
    sample = np.repeat(np.arange(len(counts)), counts)
    depth = np.arange(len(sample)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = offsets[sample] + depth * dtype.itemsize
    raw = text[first[:, np.newaxis] + np.arange(dtype.itemsize)]
    return _Gathered(raw.view(dtype)[:, 0], sample, depth)


def _name_processes(frames: Records, heads: Records) -> int:
    """Give those *frames* (N,) in no file the process of their *heads*; return how many."""
    chosen = frames["kind"] != FRAME_IN_FILE
    process = np.zeros(int(chosen.sum()), WITH_PROCESS)
    process["start_ns"] = heads["process_start_ns"][chosen]
    process["tgid"] = heads["tgid"][chosen]
    frames["build_id"][chosen] = process.view("S20")
    frames["kind"][chosen] = AT_ADDRESS
    return len(process)
