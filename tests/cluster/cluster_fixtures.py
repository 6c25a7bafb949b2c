"""Fixtures of the tests that follow a real cluster, for modules that name this as their plugin."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, running_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster, with the rights that deploy/ gives for the API server."""
    programs = os.environ.get("KEPLER_EBPF_CLUSTER")
    if programs is None:
        raise pytest.UsageError("these tests need a cluster's programs: scripts/test-cluster")
    with running_cluster(tmp_path_factory.mktemp("cluster"), Path(programs)) as made:
        made.apply_deployment()
        yield made
