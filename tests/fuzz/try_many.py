"""Tries many inputs over all targets: `tests/fuzz/try_many.py [--inputs N] [--seed S] [TARGET...]`.

Prints a line for each target. A fault is printed with the seed that makes its input again; the exit
status is then 1.
"""

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent / "support"), str(FOLDER.parents[1])]
from targets import TARGETS, clean  # noqa: E402


def main() -> None:
    """Try them, one target after the other."""
    parser = argparse.ArgumentParser("try_many.py")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    logging.disable()
    share = -(-given.inputs // len(names))
    faults = sum(_try(name, given.seed, share) for name in names)
    clean()
    print(f"{share * len(names)} inputs, {faults} faults")  # noqa: T201
    sys.exit(faults > 0)


def _try(name: str, seed: int, count: int) -> int:
    """Try *count* inputs; return how many were a fault."""
    began_s, slowest_s, slowest = time.monotonic(), 0.0, 0
    kinds: dict[tuple[str, str, int | None], list[int]] = {}
    for number in range(seed, seed + count):
        started_s = time.perf_counter()
        try:
            TARGETS[name](Random(number))  # noqa: S311  no secret
        except Exception as error:  # noqa: BLE001  each is a finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            kinds.setdefault((type(error).__name__, place.name, place.lineno), []).append(number)
        used_s = time.perf_counter() - started_s
        if used_s > slowest_s:
            slowest_s, slowest = used_s, number
    length_s = time.monotonic() - began_s
    print(  # noqa: T201
        f"{name}: {count} inputs in {length_s:.1f} s, the slowest {slowest_s * 1e3:.1f} ms "
        f"(seed {slowest}), {sum(len(each) for each in kinds.values())} faults",
        flush=True,
    )
    for kind, numbers in kinds.items():
        print(f"  {kind}: {len(numbers)} times, first with seed {numbers[0]}")  # noqa: T201
    return sum(len(each) for each in kinds.values())


if __name__ == "__main__":
    main()
