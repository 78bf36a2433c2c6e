"""LangGraph's own conformance suite, run on the saver that the orchestrator uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate

from helpers.apps.orchestrator.state import Store
from tests.contract.redis_process import RedisProcess

# The service looks a thread's latest checkpoint up by its key and lists none, so these do not touch it:
# AsyncRedisSaver 0.5.2 knows no filter by a metadata field of one's own and no `before`, lists within one namespace,
# and prunes nothing.
KNOWN = {"list", "prune"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()

    @checkpointer_test(name="orchestrator")
    async def saver() -> AsyncIterator[Any]:
        store = Store(server.url, group="pods", lease_s=6, thread_ttl_minutes=10, answer_ttl_s=60)
        await store.prepare()
        yield store.checkpoints
        await store.close()

    try:
        return dict(asyncio.run(validate(saver)).results)
    finally:
        server.kill()


def test_what_the_service_needs_of_a_saver_conforms(results: dict[str, Any]) -> None:
    failed = {
        name: result.failures for name, result in results.items() if result.detected and not result.passed
    }
    assert set(failed) <= KNOWN, failed
    assert {"put", "put_writes", "get_tuple", "delete_thread"} <= {
        name for name, result in results.items() if result.passed
    }
