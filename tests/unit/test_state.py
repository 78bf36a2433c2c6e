"""Redis as checks read it: keys, times to live, settings; and what goes wrong, by cause."""

from __future__ import annotations

import base64
import io

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import ObjectMissing
from helpers.grading.changes import pod
from helpers.labs.front_backends import redis_holds
from helpers.stack import state

STORE = state.Store(
    keys=(
        state.Key("orc:idem:abc", "string", 600.0, 120),
        state.Key("orc:run:docs:t1", "string", 20.0, 60),
        state.Key("orc:thread:docs:t1", "string", 3600.0, 64),
        state.Key("checkpoint:t1:x", "ReJSON-RL", None, 900),
    ),
    settings={
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": "1000",
        "maxmemory-policy": "noeviction",
    },
    modules=("search", "ReJSON"),
    used_bytes=5000,
    uptime_s=60,
)


@pytest.fixture
def cluster() -> FakeCluster:
    found = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": state.NAMESPACE}})
    found.put(pod(state.POD, {"containers": [{"name": "redis"}]}, state.NAMESPACE, labels={"app": "redis"}))
    return found


def test_a_store_is_read_as_redis_holds_it(cluster: FakeCluster) -> None:
    redis_holds(STORE)(cluster)
    found = state.read(cluster.view())
    assert found.keys == STORE.keys
    assert (found.append_only, found.policy, found.max_bytes) == (True, "noeviction", 1000)
    assert (found.modules, found.used_bytes) == (("search", "ReJSON"), 5000)
    assert [key.name for key in found.idempotency] == ["orc:idem:abc"]
    assert (found.threads, len(found.running)) == (("docs/t1",), 1)
    assert len(found.of_thread("t1")) == 3
    assert [key.name for key in found.for_ever] == ["checkpoint:t1:x"]
    assert len(state.read(cluster.view(), "orc:*").keys) == 3


def test_what_was_stored_as_base64_is_read_too(cluster: FakeCluster) -> None:
    packed = base64.b64encode(b"the text of a passage").decode()
    redis_holds(STORE, {"checkpoint:t1:x": f'{{"blob": "{packed}"}}', "other": "-"})(cluster)
    found = state.values(cluster.view(), "checkpoint:*")
    assert list(found) == ["checkpoint:t1:x"]
    assert "the text of a passage" in found["checkpoint:t1:x"]


def test_without_a_pod_the_state_is_missing() -> None:
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": state.NAMESPACE}})
    with pytest.raises(ObjectMissing):
        state.read(cluster.view())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"-NOAUTH Authentication required.\r\n" * 7, state.StateRefused),
        (b"HTTP/1.1 200 OK\r\n", state.StateUnavailable),
        (b"$100\r\nshort", state.StateUnavailable),
    ],
)
def test_what_is_no_answer_is_an_error_by_cause(
    cluster: FakeCluster, answer: bytes, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "TIMEOUT_S", 0.2)
    cluster.answer_port(state.NAMESPACE, state.POD, state.PORT, lambda data: answer)
    with pytest.raises(error):
        state.ask(cluster.view(), [["PING"]])


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"+OK\r\n", "OK"), (b":7\r\n", 7), (b"$-1\r\n", None), (b"*2\r\n$1\r\na\r\n:1\r\n", ["a", 1])],
)
def test_the_protocol_is_read(raw: bytes, value: object) -> None:
    assert state.decoded(io.BytesIO(raw)) == value
