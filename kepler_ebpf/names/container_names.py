"""Names of containers from their runtimes' files, for a thread that must not wait for those."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kepler_ebpf.model.workloads import ContainerLabels
from kepler_ebpf.names.cgroups.containers import has_short_id, short_id
from kepler_ebpf.names.reader import Reader
from kepler_ebpf.names.runtimes import RuntimeNames


class ContainerNames:
    """Returns what is known at once, and has the rest read by ``reader``."""

    def __init__(self, root: str) -> None:
        """See the host's file system at *root* ("/proc/1/root" in a container)."""
        self.reader = Reader("a container runtime's file")
        self._runtimes = RuntimeNames(root)

    def prefetch(self, container: ContainerLabels) -> None:
        """Have a name read for later, when its file may be gone."""
        container_id = container.container_id
        if has_short_id(container_id):
            read = partial(self._runtimes.prefetch, container_id, container.runtime)
            self.reader.request(container_id, read, lambda _: None)

    def name(self, container: ContainerLabels, cgroup_id: int, rename: Callable[[], None]) -> str:
        """Return the name of a cgroup's container, its ``short_id`` where that is not known.

        *rename* is called by ``reader.deliver`` when there is a name.
        """
        container_id = container.container_id
        known, name = self._runtimes.known(container_id), short_id(container_id)
        if known is None and has_short_id(container_id):
            read = partial(self._runtimes.name, container_id, container.runtime)
            self.reader.request(cgroup_id, read, lambda found: rename() if found != name else None)
        return known or name
