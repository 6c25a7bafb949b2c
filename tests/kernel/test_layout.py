"""The structs of the kernel side and their numpy mirrors are the same, byte for byte."""

import re

import numpy as np
import pytest

from kepler_ebpf.errors import SetupError
from kepler_ebpf.kernel import layout, programs
from kepler_ebpf.kernel.btf import Btf
from kepler_ebpf.kernel.loaders import bcc, co_re

HEADER = programs.bpf_directory() / "kepler.h"


@pytest.fixture
def btf():
    """Open the types of the compiled object."""
    with Btf.of_object(programs.bpf_directory() / co_re.OBJECT) as types:
        yield types


@pytest.mark.parametrize("struct", layout.STRUCTS)
def test_size_is_that_of_the_object(btf, struct):
    """A record takes as many bytes in numpy as in the kernel."""
    assert layout.STRUCTS[struct].itemsize == btf.size(struct)


@pytest.mark.parametrize("struct", layout.STRUCTS)
def test_fields_are_those_of_the_object(btf, struct):
    """Names and offsets are the same, in the same order."""
    fields = layout.STRUCTS[struct].fields
    assert fields is not None
    mirrored = [(name, fields[name][1]) for name in layout.STRUCTS[struct].names or ()]
    assert mirrored == list(btf.offsets(struct).items())


def test_every_struct_of_the_header_is_mirrored():
    """A struct added to the header needs its mirror."""
    assert set(re.findall(r"^struct (\w+) \{", HEADER.read_text(), re.MULTILINE)) == set(
        layout.STRUCTS
    )


def test_task_is_key_and_usage_side_by_side():
    """The joined record has the bytes of the key, then those of the usage."""
    assert layout.TASK.itemsize == layout.TASK_KEY.itemsize + layout.TASK_USAGE.itemsize
    assert layout.TASK.names == (layout.TASK_KEY.names or ()) + (layout.TASK_USAGE.names or ())


def test_limits_are_those_of_the_header():
    """Lengths, flags and map sizes that both sides know are written alike."""
    text = HEADER.read_text() + (programs.bpf_directory() / "maps.h").read_text()
    defined = dict(re.findall(r"^#define (\w+) (\S+)", text, re.MULTILINE))
    assert defined["KEPLER_COMM_LEN"] == str(layout.COMM_LEN)
    assert defined["KEPLER_PATH_LEN"] == str(layout.PATH_LEN)
    assert defined["KEPLER_ARGUMENTS_LEN"] == str(layout.ARGUMENTS_LEN)
    assert defined["KEPLER_ENDED"] == f"{layout.FLAG_ENDED}U"
    assert defined["KEPLER_PATH_UNKNOWN"] == f"{layout.PATH_UNKNOWN}U"
    assert defined["KEPLER_PATH_DELETED"] == f"{layout.PATH_DELETED}U"
    assert defined["KEPLER_NO_SUBSYS"] == f"{layout.NO_SUBSYS:#x}U"
    assert defined["CGROUP_ENTRIES"] == str(programs.CGROUP_ENTRIES)
    assert np.uint64(1 << 63) == layout.CGROUP_V1


def test_kernel_types_get_this_kernels_offsets():
    """What bcc compiles has every field where the running kernel has it, unnamed structs too."""
    declarations = (programs.bpf_directory() / "kernel_types.h").read_text()
    with Btf.of_kernel() as kernel:
        text = bcc.types_with_offsets(declarations, kernel)
        for struct in ("task_struct", "css_set", "sched_entity", "file", "dentry", "mm_struct"):
            body = text.partition(f"\nstruct {struct} {{")[2].partition("\n};")[0]
            found = dict(re.findall(r"pad_(\w+)\[(\d+)\]", body))
            members = kernel.offsets(struct)
            assert found == {name: str(members[name]) for name in found} != {}


def test_unknown_struct_is_named(btf):
    """Asking for a struct that is not there says which one, and where it was looked for."""
    with pytest.raises(SetupError, match=r"kepler\.bpf\.o lacks no_such_struct\n"):
        btf.size("no_such_struct")


def test_file_without_types_is_named(tmp_path):
    """A file that has no type information is an error that names it."""
    path = tmp_path / "empty.o"
    path.write_bytes(b"nothing")
    with pytest.raises(SetupError, match=re.escape(str(path))):
        Btf.of_object(path)


def test_enumerator_of_this_kernel_is_found():
    """Enumerators are found by name, and one that is not there is None."""
    with Btf.of_kernel() as kernel:
        assert kernel.enum_value("bpf_map_type", "BPF_MAP_TYPE_HASH") == 1
        assert kernel.enum_value("bpf_map_type", "BPF_MAP_TYPE_NO_SUCH") is None
