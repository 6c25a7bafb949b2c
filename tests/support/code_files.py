"""Real executables with known functions, and what binutils say of their names."""

import re
import subprocess
from pathlib import Path

import numpy as np

from kepler_ebpf.profile.model import Frame
from kepler_ebpf.profile.symbols.names import Names

SOURCE = r"""
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline)) static int hidden_helper(int x) { asm volatile(""); return x + 1; }
__attribute__((noinline)) int hot(int x) { asm volatile(""); return hidden_helper(x) * 2; }
__attribute__((noinline)) int warm(int x) { asm volatile(""); return hot(x) + 3; }
asm(".text\n.globl by_hand\nby_hand:\n nop\n nop\n nop\n ret\n");
extern void by_hand(void);
int main(void) {
    by_hand();
    printf("%lx %lx %d\n", (unsigned long)hot, (unsigned long)hidden_helper, warm(1));
    fflush(stdout);
    return getchar();
}
"""
"""Prints the addresses of two of its functions, and waits until its input ends."""


def compiled(folder: Path, *flags: str, source: str = SOURCE, name: str = "known") -> Path:
    """Compile *source* to an executable."""
    path = folder / name
    command = ["gcc", "-O1", "-x", "c", "-", "-Wl,--build-id", "-o", str(path), *flags]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return path


def objcopy(*arguments: str | Path) -> None:
    """Run objcopy."""
    subprocess.run(["objcopy", *map(str, arguments)], check=True, capture_output=True)


def output_of(*command: str | Path) -> str:
    """Return what a command prints."""
    return subprocess.run(
        [*map(str, command)], check=True, capture_output=True, text=True, errors="replace"
    ).stdout


def build_id_of(path: Path) -> str:
    """Return the build id of a file as readelf prints it."""
    found = re.search(r"Build ID: ([0-9a-f]+)", output_of("readelf", "-n", path))
    assert found, path
    return found[1]


def functions_of(path: Path, *options: str) -> dict[int, tuple[int, set[str]]]:
    """Return size and names of each sized function by its virtual address, as nm prints them."""
    functions: dict[int, tuple[int, set[str]]] = {}
    for line in output_of("nm", "--defined-only", "-S", *options, path).splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and fields[2] in "tTwWi" and int(fields[1], 16):
            start, size = int(fields[0], 16), int(fields[1], 16)
            _, names = functions.setdefault(start, (size, set()))
            names.add(fields[3].partition("@")[0])
    return functions


def offsets_of(path: Path, addresses: list[int]) -> list[int]:
    """Return where in the file virtual *addresses* are, by readelf's list of segments."""
    loads = re.findall(r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", output_of("readelf", "-lW", path))
    segments = [tuple(int(field, 16) for field in fields) for fields in loads]
    return [
        next(at - base + offset for offset, base, size in segments if base <= at < base + size)
        for at in addresses
    ]


def named(path: Path, offsets: list[int], names: Names | None = None) -> list[Frame]:
    """Return the frames at *offsets* of a file that is known by its path."""
    names = names or Names()
    names.learn_file(str(path))
    build_ids = np.array([bytes.fromhex(build_id_of(path))] * len(offsets), "S20")
    return names.of_build_ids(build_ids, np.array(offsets, np.int64))
