"""One suite, two backends: every case runs on the fake and on a live API server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from helpers.cluster import Cluster
from helpers.cluster.fake import FakeCluster


@pytest.fixture(params=["fake", pytest.param("live", marks=pytest.mark.live)])
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """A fake cluster, then a live one."""
    if request.param == "fake":
        return FakeCluster()
    found: Cluster = request.getfixturevalue("cluster")
    return found


@pytest.fixture
def space(any_cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own on that cluster."""
    name = f"llm-contract-{uuid.uuid4().hex[:8]}"
    any_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    any_cluster.delete_namespace(name, wait_s=0)
