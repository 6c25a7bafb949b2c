"""From a command line to the VM it runs. Pure: no I/O, never raises.

Only the program that a process runs decides whether it runs a VM, never a word somewhere among its
arguments: a shell or a search that mentions QEMU does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest
from pathlib import PurePosixPath

from kepler_ebpf.model.workloads import VmLabels

Arguments = tuple[str, ...]

MAX_PROGRAM = 64
"""Characters of a file's name; a longer one is no hypervisor's."""


def match_vm(cmdline: Arguments, pid: int, ticks: int, exe: str = "") -> VmLabels | None:
    """Find the VM that a process runs; None for any other process.

    The id is the uuid, else another handle that the user gave (name, path of the configuration),
    else one made of *pid* and its start time in *ticks*, which no other VM on this host has.
    The caller gives different ids to two VMs of one name. The hypervisor is one of Kepler's kvm,
    virtualbox, vmware, xen; Firecracker and Cloud Hypervisor are kvm, the interface they run on.
    """
    for path in (*cmdline[:1], exe):
        read = _reader_of(path)
        found = read(cmdline[1:]) if read else None
        if found is not None:
            unnamed = f"{found.hypervisor}-{unique_id(pid, ticks)}"
            vm_id = found.vm_id or found.vm_name or unnamed
            return VmLabels(vm_id, found.vm_name or vm_id, found.hypervisor)
    return None


def is_hypervisor(*paths: str) -> bool:
    """Whether one of these executables (its path, argv[0]) is known to run VMs."""
    return any(map(_reader_of, paths))


def unique_id(pid: int, ticks: int) -> str:
    """Return what no other process has: pid and start time."""
    return f"{pid}-{ticks}"


def helper_owner(comm: str) -> int | None:
    """Return the pid of the VM that a kernel thread of this name works for.

    vhost moves a VM's network and disk data, kvm-pit its timer ticks. The number is the thread
    that started the helper: a process, or one of its threads.
    """
    match = _HELPER.fullmatch(comm)
    return int(match[1]) if match else None


_HELPER = re.compile(r"(?:vhost-|kvm-pit/)([0-9]{1,10})")


# --- options ----------------------------------------------------------------------------------


def _values(arguments: Arguments, *names: str) -> list[str]:
    """Return the values of the options that are one of *names*, in order.

    One dash or two, the value behind a space or an equals sign.
    """
    values = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if argument.startswith("-") and name.lstrip("-") in names:
            values.append(value if equals else following)
    return values


def _value(arguments: Arguments, *names: str) -> str:
    """Return the first of ``_values``, "" when there is none."""
    return next(iter(_values(arguments, *names)), "")


def _properties(value: str) -> dict[str, str]:
    """Split QEMU's and Cloud Hypervisor's ``first,key=value,...``; a double comma is a comma.

    A first part without a key stands under "".
    """
    first, *rest = (part.replace("\0", ",") for part in value.replace(",,", "\0").split(","))
    properties = dict(part.partition("=")[::2] for part in rest)
    properties.update([first.partition("=")[::2] if "=" in first else ("", first)])
    return properties


# --- hypervisors: what a command line has, "" for what it does not ----------------------------


def _read_qemu(arguments: Arguments) -> VmLabels | None:
    machine = _properties(_value(arguments, "machine", "M"))
    if "none" in (machine.get(""), machine.get("type")):
        return None  # libvirt looks up what QEMU can do: no VM is started
    name = _properties(_value(arguments, "name"))
    domain = _value(arguments, "xen-domid")
    smbios = (_properties(value).get("uuid", "") for value in _values(arguments, "smbios"))
    handles = (
        _value(arguments, "uuid"),
        *smbios,
        _value(arguments, "id"),
        domain and f"xen-{domain}",
    )
    vm_id, vm_name = next(filter(None, handles), ""), name.get("guest") or name.get("", "")
    return VmLabels(vm_id, vm_name, "xen" if domain else "kvm")


def _read_kvm(arguments: Arguments) -> VmLabels | None:
    """Read QEMU under the name that Proxmox gives it, which alone proves nothing."""
    named = _value(arguments, "id", "name", "uuid")
    return _read_qemu(arguments) if named else None


def _read_xen(arguments: Arguments) -> VmLabels | None:
    """Read the device model of Xen's older tools, whose domain is given by -d."""
    found, domain = _read_qemu(arguments), _value(arguments, "d")
    if found is None:
        return None
    vm_name = found.vm_name or _value(arguments, "domain-name")
    return VmLabels(found.vm_id or (domain and f"xen-{domain}"), vm_name, "xen")


def _read_virtualbox(arguments: Arguments) -> VmLabels | None:
    started = _value(arguments, "startvm", "s")
    if not started:
        return None  # the manager's window
    return VmLabels(started, _value(arguments, "comment"), "virtualbox")


def _read_vmware(arguments: Arguments) -> VmLabels | None:
    path = next((argument for argument in reversed(arguments) if argument.endswith(".vmx")), "")
    return VmLabels(path, PurePosixPath(path).stem, "vmware")


def _read_firecracker(arguments: Arguments) -> VmLabels | None:
    return VmLabels(_value(arguments, "id"), "", "kvm")


def _read_cloud_hypervisor(arguments: Arguments) -> VmLabels | None:
    uuid = _properties(_value(arguments, "platform")).get("uuid", "")
    socket = _properties(_value(arguments, "api-socket"))
    return VmLabels(uuid or socket.get("path") or socket.get("", ""), "", "kvm")


_Reader = Callable[[Arguments], VmLabels | None]

_HYPERVISORS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (re.compile(r"\.?qemu-system-.+|qemu-kvm"), _read_qemu),
    (re.compile(r"qemu-dm"), _read_xen),
    (re.compile(r"kvm"), _read_kvm),
    (re.compile(r"VBoxHeadless|VBoxSDL|VirtualBox|VirtualBoxVM"), _read_virtualbox),
    (re.compile(r"vmware-vmx(?:-debug|-stats)?"), _read_vmware),
    (re.compile(r"firecracker(?:-v?[0-9].*)?"), _read_firecracker),
    (re.compile(r"cloud-hypervisor(?:-.+)?"), _read_cloud_hypervisor),
)


def _reader_of(path: str) -> _Reader | None:
    """Return what reads the arguments of a hypervisor's program, None for any other program."""
    program = path.rpartition("/")[2]
    return _reader_of_program(program) if len(program) <= MAX_PROGRAM else None


@lru_cache(maxsize=1024)
def _reader_of_program(program: str) -> _Reader | None:
    return next((read for pattern, read in _HYPERVISORS if pattern.fullmatch(program)), None)
