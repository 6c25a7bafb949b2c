"""CPUs and sockets, from the running host and from made trees of sockets this host has not got."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from descriptors import open_files
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.errors import ReadError, SetupError
from kepler_ebpf.host.topology import (
    CpuInfo,
    Topology,
    parse_cpu_list,
    read_cpu_info,
    read_governor,
)

ARM64_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0c

processor\t: 1
BogoMIPS\t: 50.00
CPU implementer\t: 0x41
CPU part\t: 0xd0c

Hardware\t: a board
"""


def make_sysfs(folder: Path, packages: Mapping[int, int], online: str, possible: str) -> Path:
    """Make a sysfs tree of CPUs, *packages* being each one's package id."""
    cpus = folder / "devices/system/cpu"
    cpus.mkdir(parents=True)
    (cpus / "online").write_text(online)
    (cpus / "possible").write_text(possible)
    for cpu, package in packages.items():
        add_cpu(folder, cpu, package)
    return folder


def add_cpu(sysfs: Path, cpu: int, package: int) -> None:
    """Add the folder that a CPU has while it is online."""
    topology = sysfs / f"devices/system/cpu/cpu{cpu}/topology"
    topology.mkdir(parents=True)
    (topology / "physical_package_id").write_text(f"{package}\n")
    (topology / "core_id").write_text(f"{cpu}\n")


def set_online(sysfs: Path, cpus: str) -> None:
    """Rewrite the list of online CPUs in place, as the kernel's file changes under an open fd."""
    (sysfs / "devices/system/cpu/online").write_text(cpus)


# --- the running host -------------------------------------------------------------------------


def test_online_cpus_of_this_host() -> None:
    """Their number is the one that libc has from the kernel."""
    with Topology() as topology:
        assert len(topology.online()) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_every_socket_of_this_host_has_a_cpu() -> None:
    """Counting CPUs by socket gives every online CPU once and no empty socket."""
    with Topology() as topology:
        assert sum(topology.cpus_per_socket) == len(topology.online())
        assert len(topology.cpus_per_socket) == topology.sockets
        assert all(topology.cpus_per_socket)


def test_closed_topology_leaves_no_descriptor() -> None:
    """Making and closing one leaves as many open files as before."""
    before = open_files()
    Topology().close()
    assert open_files() == before


def test_cpu_info_names_every_online_cpu_of_this_host() -> None:
    """There is one record for each online CPU, with the ids of its socket and core."""
    info = read_cpu_info()
    with Topology() as topology:
        assert [int(cpu.processor) for cpu in info] == list(topology.online())
    assert all(cpu.physical_id.isdigit() and cpu.core_id.isdigit() for cpu in info)


# --- sockets ----------------------------------------------------------------------------------


def test_package_ids_with_gaps_become_indices(tmp_path: Path) -> None:
    """Sockets are numbered 0..n-1 in the order of the package ids."""
    sysfs = make_sysfs(tmp_path, {0: 36, 1: 0, 2: 36, 3: 0}, "0-3\n", "0-3\n")
    with Topology(sysfs) as topology:
        assert topology.package_ids == (0, 36)
        assert topology.socket_of == (1, 0, 1, 0)
        assert topology.cpus_per_socket == (2, 2)


def test_possible_cpus_may_have_gaps(tmp_path: Path) -> None:
    """The sockets are listed by CPU number, up to the highest possible one."""
    sysfs = make_sysfs(tmp_path, {0: 0, 4: 1}, "0,4\n", "0-1,4-5\n")
    with Topology(sysfs) as topology:
        assert topology.possible == (0, 1, 4, 5)
        assert topology.socket_of == (0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("text", ["-1\n", "", None])
def test_platform_without_package_ids_has_one_socket(tmp_path: Path, text: str | None) -> None:
    """Where the kernel knows no package, all CPUs sit on socket 0."""
    sysfs = make_sysfs(tmp_path, {0: 0}, "0\n", "0\n")
    path = sysfs / "devices/system/cpu/cpu0/topology/physical_package_id"
    path.unlink() if text is None else path.write_text(text)
    with Topology(sysfs) as topology:
        assert (topology.sockets, topology.socket_of) == (1, (0,))


# --- hotplug ----------------------------------------------------------------------------------


def test_unchanged_list_is_the_same_object(tmp_path: Path) -> None:
    """A reader finds out by identity that nothing changed."""
    with Topology(make_sysfs(tmp_path, {0: 0, 1: 0}, "0-1\n", "0-1\n")) as topology:
        assert topology.online() is topology.online()


def test_cpu_that_leaves_is_not_online_and_keeps_its_socket(tmp_path: Path) -> None:
    """The list is shorter, and the CPU's earlier time still belongs to its socket."""
    sysfs = make_sysfs(tmp_path, {0: 0, 1: 1}, "0-1\n", "0-1\n")
    with Topology(sysfs) as topology:
        set_online(sysfs, "0\n")
        assert topology.online() == (0,)
        assert topology.socket_of == (0, 1)


def test_cpu_that_arrives_gets_its_socket(tmp_path: Path) -> None:
    """A CPU that was offline at the start has its socket known when it comes up."""
    sysfs = make_sysfs(tmp_path, {0: 0, 1: 1}, "0-1\n", "0-2\n")
    with Topology(sysfs) as topology:
        add_cpu(sysfs, 2, 1)
        set_online(sysfs, "0-2\n")
        assert topology.online() == (0, 1, 2)
        assert topology.socket_of == (0, 1, 1)


def test_new_package_is_logged_and_counts_to_socket_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that appears later has no meter and no row."""
    sysfs = make_sysfs(tmp_path, {0: 0}, "0\n", "0-1\n")
    with Topology(sysfs) as topology, caplog.at_level(logging.WARNING):
        add_cpu(sysfs, 1, 7)
        set_online(sysfs, "0-1\n")
        topology.online()
        assert (topology.sockets, topology.socket_of) == (1, (0, 0))
    assert "CPU 1 came up on package 7" in caplog.text


@pytest.mark.parametrize("text", ["", "\n", "abc\n", "0-\n", "1-0\n", "0-5\n", "0-99999999999\n"])
def test_invalid_list_fails_the_interval_only(tmp_path: Path, text: str) -> None:
    """It is an error that the loop survives."""
    sysfs = make_sysfs(tmp_path, {0: 0}, "0\n", "0\n")
    with Topology(sysfs) as topology:
        set_online(sysfs, text)
        with pytest.raises(ReadError, match="online"):
            topology.online()
        set_online(sysfs, "0\n")
        assert topology.online() == (0,)


# --- trees that cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize("missing", ["possible", "online"])
def test_tree_without_cpus_is_a_setup_error(tmp_path: Path, missing: str) -> None:
    """The error names the file and the flag."""
    sysfs = make_sysfs(tmp_path, {0: 0}, "0\n", "0\n")
    (sysfs / "devices/system/cpu" / missing).unlink()
    with pytest.raises(SetupError, match=rf"{missing}: No such file.*\n.*--host\.sysfs"):
        Topology(sysfs)


@pytest.mark.parametrize(
    ("online", "possible"),
    [("", "0\n"), ("0\n", "?"), ("0\n", ""), ("0-5", "0-1"), ("0", "0-99999999999")],
)
def test_tree_with_invalid_lists_is_a_setup_error(
    tmp_path: Path, online: str, possible: str
) -> None:
    """A run needs the CPUs; no descriptor stays open."""
    sysfs = make_sysfs(tmp_path, {0: 0}, online, possible)
    before = open_files()
    with pytest.raises(SetupError, match=r"--host\.sysfs"):
        Topology(sysfs)
    assert open_files() == before


# --- CPU lists --------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 300), min_size=1))
def test_list_written_in_ranges_is_read_back(cpus: set[int]) -> None:
    """Whatever ranges the kernel makes of a set of CPUs, the set comes back."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    text = ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
    assert parse_cpu_list(f"{text}\n") == tuple(sorted(cpus))


# --- CPU info ---------------------------------------------------------------------------------


def test_arm64_takes_what_it_has_and_the_rest_from_sysfs(tmp_path: Path) -> None:
    """On arm64 cpuinfo has neither names nor ids: the codes stand in, sysfs has the ids."""
    sysfs = make_sysfs(tmp_path / "sys", {0: 0, 1: 0}, "0-1\n", "0-1\n")
    (tmp_path / "cpuinfo").write_text(ARM64_CPUINFO)
    assert read_cpu_info(tmp_path, sysfs) == (
        CpuInfo("0", "0x41", "0xd0c", "0", "0"),
        CpuInfo("1", "0x41", "0xd0c", "0", "1"),
    )


def test_field_that_the_host_lacks_is_empty(tmp_path: Path) -> None:
    """An unknown label is empty."""
    (tmp_path / "cpuinfo").write_text("processor\t: 3\n")
    assert read_cpu_info(tmp_path, tmp_path) == (CpuInfo("3", "", "", "", ""),)


def test_missing_cpuinfo_is_a_setup_error(tmp_path: Path) -> None:
    """The error names the file and the flag."""
    with pytest.raises(SetupError, match=r"cpuinfo: No such file.*\n.*--host\.procfs"):
        read_cpu_info(tmp_path)


@pytest.mark.parametrize(
    ("governors", "found"),
    [
        ({0: "performance", 1: "performance"}, "performance"),
        ({0: "schedutil", 1: "powersave", 7: "ondemand"}, "powersave, schedutil"),
        ({1: "powersave"}, "powersave"),
        ({}, ""),
    ],
    ids=str,
)
def test_governors_are_those_of_the_given_cpus(
    tmp_path: Path, governors: Mapping[int, str], found: str
) -> None:
    """Each is named once, in order; a CPU without one counts for nothing."""
    for cpu, governor in governors.items():
        folder = tmp_path / f"devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    cpus = [CpuInfo(str(cpu), "", "", "", "") for cpu in range(2)]
    assert read_governor(cpus, tmp_path) == found
