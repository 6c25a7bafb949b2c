"""Names are shown as the source has them, and hostile ones cost little."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from code_files import output_of

from kepler_ebpf.profile.symbols import demangle
from kepler_ebpf.profile.symbols.demangle import Demangler, readable
from kepler_ebpf.profile.symbols.rust import demangle_rust

LIBSTDCXX = next(Path("/usr/lib").glob("*/libstdc++.so.6"))
RUST_NAMES = Path(__file__).with_name("rust_names.txt").read_text().split()
"""Mangled by the compiler, in both ways: of a small program, and of the libraries it uses."""


def filtered(names: list[str], *options: str) -> list[str]:
    """Return what c++filt makes of names."""
    command = ["c++filt", *options]
    text = subprocess.run(
        command, input="\n".join(names), text=True, check=True, capture_output=True
    )
    return text.stdout.split("\n")


def test_cxx_names_are_those_of_the_compiler() -> None:
    """All names of a large library."""
    lines = output_of("nm", "-D", "--defined-only", LIBSTDCXX).splitlines()
    names = [name for line in lines if (name := line.split()[2].partition("@")[0])[:2] == "_Z"]
    # c++filt writes out the types that have short names in the source, such as std::string.
    names = [name for name in names if not re.search("S[abdios]", name)]
    assert Demangler().demangle(names) == filtered(names)
    assert len(names) > 1_000


def test_rust_v0_names() -> None:
    """As c++filt has them, less the hashes of crates and the types of numbers."""
    names = [name for name in RUST_NAMES if name.startswith("_R")]
    plain = [
        re.sub(r"(?<=\w)\[[0-9a-f]{5,16}\]|: usize|: bool| \(\.llvm[^)]*\)", "", name)
        for name in filtered(names, "-s", "rust")
    ]
    assert [demangle_rust(name) for name in names] == plain
    assert any("größe::<" in name for name in plain)


def test_rust_legacy_names() -> None:
    """As c++filt has them, less the hash at the end."""
    names = [name for name in RUST_NAMES if name.startswith("_ZN")]
    found = Demangler().demangle(names)
    hashed = re.compile(r"::h[0-9a-f]{16}(\.llvm.*)?$")
    plain = [hashed.sub("", name) for name in filtered(names, "-s", "rust")]
    wrong = [pair for pair in zip(found, plain, strict=True) if pair[0] != pair[1]]
    assert [pair[0] for pair in wrong] == ["r::größe"]  # c++filt leaves its letters escaped.


@pytest.mark.parametrize(
    ("mangled", "plain"),
    [
        ("_RNvC1a1b", "a::b"),
        ("_RNvNtC1a3mod1b.llvm.123", "a::mod::b"),
        ("_RNCNvC1a1b0", "a::b::{closure#0}"),
        ("_RINvC1a1bFUKCRhmEuE", 'a::b::<unsafe extern "C" fn(&u8, u32)>'),
        ("_RINvC1a1bDG_INtC1c1FTRL0_hEEp1ObEL_E", "a::b::<dyn for<'a> c::F<(&'a u8,), O = bool>>"),
        ("_RINvC1a1bKj7b_Kan1_Kb1_Kc61_E", "a::b::<123, -1, true, 'a'>"),
        ("_RNvC1a", ""),
        ("_RNvC1a9b", ""),
        ("_R", ""),
        ("_RB_", ""),
        ("_ZN3foo3barE", ""),
    ],
)  # fmt: skip
def test_rust_names_by_hand(mangled: str, plain: str) -> None:
    """What compilers seldom write; "" is for what is no name."""
    assert demangle_rust(mangled) == plain


def exponential(depth: int) -> str:
    """Return a short C++ name that stands for one of 2**depth words."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "_Z1f1pIiiE" + "".join(f"S_IS{digits[i]}_S{digits[i]}_E" for i in range(depth))


def test_a_name_that_grows_without_end() -> None:
    """It stays mangled; those after it do not."""
    names = [exponential(35), "_Z3foov", "_Z1f" + "P" * 4_000 + "i", "_Z3barv"]
    found = Demangler().demangle(names)
    assert found[0] == names[0]
    assert found[1::2] == ["foo()", "bar()"]


def doubled(depth: int) -> str:
    """Return a short Rust name: of a pair of the pair before, again and again."""
    name, last = "_RINvC1a1b", "h"
    for _ in range(depth):
        at = len(name) - len("_R")
        name, last = f"{name}T{last}{last}E", f"B{base_62(at - 1)}_"
    return f"{name}E"


def test_a_rust_name_that_grows_without_end() -> None:
    """What stands for too much, or is too deep, stays mangled."""
    assert demangle_rust(doubled(2)) == "a::b::<(u8, u8), ((u8, u8), (u8, u8))>"
    assert demangle_rust(doubled(40)) == ""
    assert demangle_rust("_RINvC1a1b" + "S" * 3_000 + "hE") == ""


def base_62(number: int) -> str:
    """Write a number as the mangling does."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return (base_62(number // 62) if number >= 62 else "") + digits[number % 62]


def test_the_program_has_no_capabilities() -> None:
    """Also where a user has some, and not root's right to become another one."""
    rights = ["--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace"]
    user = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", *rights]
    command = [*user, sys.executable, "-I", "-S", str(demangle.FILTER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write(b"_Z3hotv\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"hot()\n"
        status = Path(f"/proc/{running.pid}/status").read_text()
        running.stdin.close()
    for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert f"{kind}:\t{0:016x}" in status


def test_without_the_library_names_stay_mangled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each other name is as it was, and the demangler says why."""
    program = tmp_path / "filter.py"
    program.write_text(demangle.FILTER.read_text().replace("libstdc++.so.6", "libstdc++.so.99"))
    monkeypatch.setattr(demangle, "FILTER", program)
    demangler = Demangler()
    assert demangler.demangle(["_Z3foov", "main", "_RNvC1a1b"]) == ["_Z3foov", "main", "a::b"]
    assert demangler.is_missing


def test_a_name_is_one_line_of_bounded_length() -> None:
    """Whatever a file has for one."""
    assert readable("a\nb\x1b[31m\u2028é") == "a?b?[31m?é"
    assert len(readable("x" * 100_000)) == demangle.MAX_SHOWN
