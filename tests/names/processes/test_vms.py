"""The VM of a command line, for every hypervisor that is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_ebpf.model.workloads import VmLabels
from kepler_ebpf.names.processes.vms import helper_owner, match_vm

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
PID = 4242
TICKS = 99

KNOWN = [
    (
        ("/usr/bin/qemu-system-x86_64", "-name", "guest=web,debug-threads=on", "-uuid", UUID),
        VmLabels(UUID, "web", "kvm"),
    ),
    (("qemu-system-aarch64", "--name=web", "--uuid", UUID), VmLabels(UUID, "web", "kvm")),
    (
        ("/usr/libexec/qemu-kvm", "-name", "web,process=qemu:web", "-m", "512"),
        VmLabels("web", "web", "kvm"),
    ),
    (("qemu-system-x86_64", "-name", "guest=a,,b", "-uuid", UUID), VmLabels(UUID, "a,b", "kvm")),
    (("qemu-system-x86_64", "-uuid", UUID), VmLabels(UUID, UUID, "kvm")),
    (("qemu-system-x86_64", "-m", "512"), VmLabels("kvm-4242-99", "kvm-4242-99", "kvm")),
    (("qemu-system-x86_64", "-name"), VmLabels("kvm-4242-99", "kvm-4242-99", "kvm")),
    (
        ("/usr/bin/kvm", "-id", "101", "-name", "db,debug-threads=on", "-smbios", "type=1"),
        VmLabels("101", "db", "kvm"),
    ),
    (
        ("/usr/bin/kvm", "-id", "101", "-name", "db", "-smbios", f"type=1,uuid={UUID}"),
        VmLabels(UUID, "db", "kvm"),
    ),
    (("/usr/bin/kvm", "-uuid", UUID), VmLabels(UUID, UUID, "kvm")),
    (("qemu-dm", "-d", "7", "-domain-name", "dom"), VmLabels("xen-7", "dom", "xen")),
    (("qemu-system-i386", "-xen-domid", "5", "-name", "dom"), VmLabels("xen-5", "dom", "xen")),
    (
        ("/usr/lib/virtualbox/VBoxHeadless", "--comment", "web", "--startvm", UUID),
        VmLabels(UUID, "web", "virtualbox"),
    ),
    (("VirtualBoxVM", "--startvm", "web"), VmLabels("web", "web", "virtualbox")),
    (
        ("/usr/lib/vmware/bin/vmware-vmx", "-s", "x=y", "/vms/web/web server.vmx"),
        VmLabels("/vms/web/web server.vmx", "web server", "vmware"),
    ),
    (("vmware-vmx",), VmLabels("vmware-4242-99", "vmware-4242-99", "vmware")),
    (("/firecracker", "--id", "fc-1", "--start-time-us", "1"), VmLabels("fc-1", "fc-1", "kvm")),
    (("firecracker-v1.9.1-x86_64",), VmLabels("kvm-4242-99", "kvm-4242-99", "kvm")),
    (
        ("cloud-hypervisor", "--api-socket", "path=/run/vm/a.sock", "--platform", f"uuid={UUID}"),
        VmLabels(UUID, UUID, "kvm"),
    ),
    (
        ("cloud-hypervisor", "--api-socket", "/run/vm/a.sock"),
        VmLabels("/run/vm/a.sock", "/run/vm/a.sock", "kvm"),
    ),
    (
        ("cloud-hypervisor-static", "--api-socket", "fd=3"),
        VmLabels("kvm-4242-99", "kvm-4242-99", "kvm"),
    ),
]

NONE = [
    (),
    ("",),
    ("/bin/sh", "-c", "qemu-system-x86_64 -name web"),
    ("grep", "qemu-system-x86_64"),
    ("qemu-img", "convert", "a.qcow2", "b.raw"),
    ("qemu-x86_64", "/bin/ls"),
    ("kvm", "install"),
    ("VirtualBox",),
    ("VBoxSVC", "--auto-shutdown"),
    ("qemu-system-x86_64", "-S", "-machine", "none,accel=kvm:tcg", "-daemonize"),
]


@pytest.mark.parametrize(("cmdline", "expected"), KNOWN)
def test_vm_of_a_command_line(cmdline: tuple[str, ...], expected: VmLabels) -> None:
    """Each hypervisor's options give id, name and hypervisor."""
    assert match_vm(cmdline, PID, TICKS) == expected


@pytest.mark.parametrize("cmdline", NONE)
def test_no_vm(cmdline: tuple[str, ...]) -> None:
    """Other programs run no VM, whatever their arguments say."""
    assert match_vm(cmdline, PID, TICKS) is None


def test_executable_tells_where_the_name_does_not() -> None:
    """A hypervisor under another name is known by its executable."""
    found = match_vm(("my-vm", "-name", "web"), PID, TICKS, exe="/usr/bin/qemu-system-x86_64")
    assert found == VmLabels("web", "web", "kvm")


def test_executable_tells_where_the_name_says_too_little() -> None:
    """QEMU started as kvm and without a name runs a VM, as its executable shows."""
    found = match_vm(("kvm", "-m", "64"), PID, TICKS, exe="/usr/bin/qemu-system-x86_64")
    assert found
    assert found.hypervisor == "kvm"


def test_vms_without_a_name_do_not_share_an_id() -> None:
    """The same bare command line run twice is two VMs."""
    cmdline = ("qemu-system-x86_64",)
    ids = {
        found.vm_id
        for pid, ticks in ((1, 1), (1, 2), (2, 1), (11, 1))
        if (found := match_vm(cmdline, pid, ticks))
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("comm", "owner"),
    [
        ("vhost-4194304", 4194304),
        ("kvm-pit/77", 77),
        ("vhost-", None),
        ("vhost-12a", None),
        ("vhost_task", None),
        ("kworker/1:0", None),
    ],
)
def test_owner_of_a_helper_thread(comm: str, owner: int | None) -> None:
    """A kernel helper carries the pid of its VM in its name."""
    assert helper_owner(comm) == owner


PROGRAMS = st.sampled_from(
    ["qemu-system-x86_64", "kvm", "VBoxHeadless", "vmware-vmx", "firecracker", "cloud-hypervisor"]
)
OPTIONS = st.sampled_from(
    [
        *("-name", "--name=", "-uuid", "-id", "--id=x", "-smbios", "-xen-domid", "--startvm"),
        *("--comment", "a.vmx", "--platform", "--api-socket", "uuid=", "guest=,", ",,", "=", "-"),
    ]
)


@given(PROGRAMS, st.lists(OPTIONS | st.text(max_size=5), max_size=8))
def test_no_command_line_raises(program: str, arguments: list[str]) -> None:
    """Whatever the arguments, a VM has an id, a name and one of the four hypervisors."""
    found = match_vm((program, *arguments), PID, TICKS)
    assert found is None or (found.vm_id and found.vm_name)
    assert found is None or found.hypervisor in {"kvm", "virtualbox", "vmware", "xen"}
