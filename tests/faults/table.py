"""All faults, in the order of the table: those of one bed stand together."""

# ruff: noqa: F401  each module adds its faults
import energy_faults
import host_faults
import inside_faults
import kernel_faults
import network_faults
import output_faults
import pod_faults
import procfs_faults
import resource_faults
import runtime_faults
from bed import BEDS
from fault import FAULTS as ADDED

FAULTS = sorted(ADDED, key=lambda each: list(BEDS).index(each.bed))

HEAD = "| fault | what happens | what the program does |\n|---|---|---|"


def lines() -> list[str]:
    """Return the table in Markdown."""
    return [HEAD, *(f"| {each.name} | {each.what} | {each.then} |" for each in FAULTS)]
