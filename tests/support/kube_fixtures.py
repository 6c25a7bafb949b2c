"""Fixtures of the tests that follow a cluster, for modules that name this as their plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kube_certificates import write_kubeconfig
from kube_rig import Rig, rig_of
from kube_server import KubeServer, serving


@pytest.fixture
def server() -> Iterator[KubeServer]:
    """Serve a cluster with no pods."""
    with serving() as server:
        yield server


@pytest.fixture
def rig(server: KubeServer, tmp_path: Path) -> Rig:
    """Return a follower of that cluster, not yet running."""
    return rig_of(write_kubeconfig(tmp_path / "config", server.url))
