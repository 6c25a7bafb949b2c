"""Faults of the energy counters and of the list of CPUs: files of sysfs."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bed import Bed
from fault import Counted, fault, total
from running import Page

PACKAGE, CORE, UNCORE, DRAM = (
    "intel-rapl:0",
    "intel-rapl:0:0",
    "intel-rapl:0:1",
    "intel-rapl:0:2",
)
LATE = "the interval goes on, at most three times; then the zone's energy has no owner"
J = 1e6


def zone_errors(reason: str, path: str = DRAM) -> Counted:
    """Count the faults of a zone for a reason."""
    return total("kepler_ebpf_meter_errors_total", reason=reason, path=f"/{path}")


def shows(bed: Bed, text: str) -> Iterator[None]:
    """Let a zone's counter hold a text."""
    with bed.tree.holding(DRAM):
        bed.tree.show(DRAM, text)
        yield


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_is_empty(bed: Bed) -> Iterator[None]:
    """energy_uj is an empty file."""
    yield from shows(bed, "")


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_is_no_number(bed: Bed) -> Iterator[None]:
    """energy_uj holds a word."""
    yield from shows(bed, "0x12cafe")


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_is_negative(bed: Bed) -> Iterator[None]:
    """energy_uj holds a negative number."""
    yield from shows(bed, "-17")


@fault("rapl", "the value is no energy", counted=zone_errors("jump"))
def energy_counter_is_huge(bed: Bed) -> Iterator[None]:
    """energy_uj holds 23 digits."""
    yield from shows(bed, "9" * 23)


@fault("rapl", LATE, counted=zone_errors("jump"))
def energy_counter_is_a_long_file(bed: Bed) -> Iterator[None]:
    """energy_uj holds 1 MB of digits."""
    with bed.tree.holding(DRAM):
        bed.tree.counter(DRAM).write_text("7" * 1_000_000)
        yield


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_vanishes(bed: Bed) -> Iterator[None]:
    """energy_uj is removed."""
    with bed.tree.holding(DRAM):
        bed.tree.show(DRAM, "")
        bed.tree.vanish(DRAM)
        yield


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_cannot_be_read(bed: Bed) -> Iterator[None]:
    """energy_uj is a directory."""
    with bed.tree.holding(DRAM):
        bed.tree.show(DRAM, "")
        bed.tree.block(DRAM)
        yield
        bed.tree.unblock(DRAM)


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_is_a_fifo(bed: Bed) -> Iterator[None]:
    """energy_uj is a FIFO that nobody writes."""
    path = bed.tree.counter(DRAM)
    with bed.tree.holding(DRAM):
        bed.tree.show(DRAM, "")
        path.unlink()
        os.mkfifo(path)
        yield
        path.unlink()


@fault("rapl", LATE, counted=zone_errors("read"))
def energy_counter_is_a_loop(bed: Bed) -> Iterator[None]:
    """energy_uj is a symbolic link to itself."""
    path = bed.tree.counter(DRAM)
    with bed.tree.holding(DRAM):
        bed.tree.show(DRAM, "")
        path.unlink()
        path.symlink_to(path.name)
        yield
        path.unlink()


@fault(
    "rapl",
    "the interval goes on without energy, which comes late",
    counted=total("kepler_ebpf_failed_intervals_total"),
)
def energy_driver_is_unloaded(bed: Bed) -> Iterator[None]:
    """All counters are removed, as by unloading the driver."""
    with bed.tree.holding(*bed.tree.entries):
        for entry in bed.tree.entries:
            bed.tree.show(entry, "")
            bed.tree.vanish(entry)
        yield


@fault("rapl", "no energy", counted=zone_errors("jump"))
def energy_counter_runs_backwards(bed: Bed) -> Iterator[None]:
    """A counter goes back by 2 J."""
    with bed.tree.lock:
        bed.tree.advance({DRAM: -2 * J})
    yield


@fault("rapl", "no energy; counted on from there", counted=zone_errors("jump"))
def energy_counter_is_reset(bed: Bed) -> Iterator[None]:
    """A counter starts again at 0."""
    bed.tree.set(DRAM, 0)
    yield


@fault("rapl", "no energy", counted=zone_errors("jump"))
def energy_counter_jumps(bed: Bed) -> Iterator[None]:
    """A counter jumps by 50 kJ."""
    with bed.tree.lock:
        bed.tree.advance({DRAM: 50_000 * J})
    yield


@fault("rapl", "its total goes on; no fault is counted")
def energy_counter_wraps(bed: Bed) -> Iterator[None]:
    """A counter passes the end of its range."""
    before = bed.page()
    end_uj = int((bed.tree.directory(PACKAGE) / "max_energy_range_uj").read_text())
    # To get near the end it must jump, which is a fault.
    with bed.tree.lock:
        bed.tree.set(PACKAGE, end_uj - 4 * J)
    jumped = bed.until(lambda page: errors_of(page) > errors_of(before), "a jump")
    bed.until(lambda page: node_j(page) > node_j(jumped) + 8)
    yield
    assert errors_of(bed.page()) == errors_of(jumped)


def errors_of(page: Page) -> float:
    """Return the jumps of the package's counter."""
    return zone_errors("jump", PACKAGE)(page)


def node_j(page: Page) -> float:
    """Return the energy of the node's packages."""
    return page.total("kepler_node_cpu_joules_total", zone="package")


@fault("rapl", "counted", counted=zone_errors("stuck"))
def energy_counter_is_stuck(bed: Bed) -> Iterator[None]:
    """A counter stands still while CPUs work."""
    with bed.tree.holding(DRAM):
        yield


# --- CPUs -------------------------------------------------------------------------------------

FAILED = total("kepler_ebpf_failed_intervals_total")


def lists(bed: Bed, text: str) -> Iterator[None]:
    """Let the list of CPUs online be a text."""
    before = bed.tree.online.read_text()
    bed.tree.online.write_text(text)
    try:
        yield
    finally:
        bed.tree.online.write_text(before)


@fault("rapl", "the interval goes on", counted=FAILED)
def cpu_list_is_no_list(bed: Bed) -> Iterator[None]:
    """The list of CPUs is a word."""
    yield from lists(bed, "zero\n")


@fault("rapl", "the interval goes on", counted=FAILED)
def cpu_list_is_empty(bed: Bed) -> Iterator[None]:
    """The list of CPUs is empty."""
    yield from lists(bed, "")


@fault("rapl", "the interval goes on", counted=FAILED)
def cpu_list_is_huge(bed: Bed) -> Iterator[None]:
    """The list of CPUs is 0-999999999."""
    yield from lists(bed, "0-999999999\n")


@fault("rapl", "the interval goes on", counted=FAILED)
def cpu_list_has_an_impossible_cpu(bed: Bed) -> Iterator[None]:
    """The list of CPUs has one that cannot be."""
    yield from lists(bed, "0-60000\n")


@fault("rapl", "its idle time is not known meanwhile")
def cpu_list_lacks_a_cpu(bed: Bed) -> Iterator[None]:
    """The list of CPUs lacks one that works."""
    yield from lists(bed, "0\n")


ONLINE = Path("/sys/devices/system/cpu/online")
CPU_1 = Path("/sys/devices/system/cpu/cpu1/online")


@fault("rapl", "its time is counted while it is online")
def cpu_goes_offline(bed: Bed) -> Iterator[None]:
    """CPU 1 goes offline and comes back."""
    # A host that keeps its CPUs online refuses it: nothing happens there.
    with suppress(OSError):
        CPU_1.write_text("0")
    bed.tree.online.write_text(ONLINE.read_text())
    try:
        yield
    finally:
        with suppress(OSError):
            CPU_1.write_text("1")
        bed.tree.online.write_text(ONLINE.read_text())


@fault("rapl", LATE, counted=zone_errors("read"))
def sysfs_is_unmounted(bed: Bed) -> Iterator[None]:
    """The whole sysfs tree is removed."""
    aside = bed.tree.sysfs.with_name("aside")
    with bed.tree.holding(*bed.tree.entries):
        time.sleep(0.02)
        shutil.move(bed.tree.sysfs, aside)
        for entry in bed.tree.entries:
            counter = aside / "class/powercap" / entry / "energy_uj"
            with counter.open("wb"):
                pass
        yield
        shutil.move(aside, bed.tree.sysfs)
