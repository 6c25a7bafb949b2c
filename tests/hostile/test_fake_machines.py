"""Processes that call themselves hypervisors, beside a live `run` with the shipped memory."""

import os
from contextlib import ExitStack
from pathlib import Path

from memory_limit import memory_limit, peak_bytes
from processes import waiting_shell
from running import Page, running

QEMU = "qemu-system-x86_64"
MACHINES = 400
MANY_ARGUMENTS = ["ab"] * 21_000
"""Nearly 64 kB, and 1.5 MB as strings of Python."""

MAX_BYTES = 100 << 20


def test_fake_machines_with_long_command_lines(tmp_path: Path) -> None:
    """They cost what machines cost: command lines are not kept."""
    uuid = f"fake-{os.getpid()}-"

    def machines(page: Page) -> set[str]:
        rows = page.find("kepler_vm_cpu_joules_total")
        return {row.labels["vm_id"] for row in rows if row.labels["vm_id"].startswith(uuid)}

    with ExitStack() as stack:
        wrapper = stack.enter_context(memory_limit())
        arguments = ("--meter", "fake", "--interval", "200ms")
        run = stack.enter_context(running(tmp_path, *arguments, wrapper=wrapper))
        for number in range(MACHINES):
            options = ("-uuid", f"{uuid}{number}", *MANY_ARGUMENTS)
            stack.enter_context(waiting_shell(*options, name=QEMU))
        run.until(lambda page: len(machines(page)) == MACHINES)
        peak = peak_bytes(run.process.pid)
        assert peak < MAX_BYTES
        assert run.end() == 0
