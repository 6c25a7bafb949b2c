"""Functions of the kernel get their names from its own table."""

from pathlib import Path

import numpy as np
import pytest

from kepler_ebpf.profile.model import Frame, Origin
from kepler_ebpf.profile.symbols.names import Names

TABLE = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T first
ffffffff81000040 t second
ffffffff81000080 D some_data
ffffffff81000090 W __weak_one
ffffffff81000090 W weak_one
ffffffffc0001000 t of_module\t[ext4]
"""


def names_of(procfs: Path, table: str) -> Names:
    """Return names that read *table*."""
    (procfs / "kallsyms").write_text(table)
    return Names(procfs=str(procfs))


def of_kernel(names: Names, *addresses: int) -> list[Frame]:
    """Return the frames at addresses, as the kernel side has them."""
    return names.of_kernel(np.array(addresses, np.uint64).astype(np.int64))


def test_a_table(tmp_path: Path) -> None:
    """The best of several names, the module, and nothing where only data is."""
    base = 0xFFFF_FFFF_8100_0000
    module = 0xFFFF_FFFF_C000_1000
    names = names_of(tmp_path, TABLE)
    frames = of_kernel(names, base, base + 0x7F, base + 0x85, base + 0x95, module + 4, base - 1)
    nameless = Frame("[kernel]", "[kernel]", Origin.KERNEL)
    assert frames == [
        Frame("first", "[kernel]", Origin.KERNEL),
        Frame("second", "[kernel]", Origin.KERNEL),
        nameless,
        Frame("weak_one", "[kernel]", Origin.KERNEL),
        Frame("of_module", "[ext4]", Origin.KERNEL),
        nameless,
    ]
    assert names.notes() == ()


def test_far_behind_a_function_is_nothing(tmp_path: Path) -> None:
    """The table has no lengths, but there is no function of a megabyte."""
    names = names_of(tmp_path, TABLE)
    assert of_kernel(names, 0xFFFF_FFFF_C050_0000)[0].name == "[kernel]"


@pytest.mark.parametrize("table", ["", TABLE.replace("ffffffff", "00000000").replace("81", "00")])
def test_hidden_names_are_noted(tmp_path: Path, table: str) -> None:
    """To who may not see the addresses, the kernel shows zeros."""
    lines = [f"{'0' * 16}{line[16:]}\n" for line in table.splitlines()]
    names = names_of(tmp_path, "".join(lines))
    assert of_kernel(names, 0xFFFF_FFFF_8100_0000)[0].name == "[kernel]"
    (note,) = names.notes()
    assert "kernel.kptr_restrict" in note


def test_the_running_kernel(tmp_path: Path) -> None:
    """Each function that is alone at its address has its name."""
    text = Path("/proc/kallsyms").read_text()  # Programs come and go meanwhile.
    lines = [line.split() for line in text.splitlines()]
    code = [line for line in lines if line[1] in "tTwW" and int(line[0], 16)]
    starts, counts = np.unique([int(line[0], 16) for line in lines], return_counts=True)
    alone = set(starts[counts == 1].tolist())
    chosen = [line for line in code if int(line[0], 16) in alone][::50]
    frames = of_kernel(names_of(tmp_path, text), *(int(line[0], 16) for line in chosen))
    assert [frame.name for frame in frames] == [line[2] for line in chosen]
    assert len(frames) > 100
