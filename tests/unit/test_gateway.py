"""The gateway: its manifests, its keys, and what a caller is told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import endpoints, pod
from helpers.labs.front_backends import gateway_serves
from helpers.stack import gateway
from helpers.stack.serving import config_checksum

BASE = gateway.MANIFESTS / "base"
ENVOY = (BASE / "envoy.yaml").read_text()
RATE_LIMIT = "envoy.filters.http.ratelimit"


def config_map(name: str, file: str, text: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": gateway.NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {file: text}}


def a_gateway(
    edit: Callable[[dict[str, Any]], object] = lambda config: None, tokens: str = ""
) -> FakeCluster:
    """A cluster with the gateway's objects, `envoy.yaml` edited, and pods behind both Services."""
    config = yaml.safe_load(ENVOY)
    edit(config)
    cluster = FakeCluster()
    for name in ("llm-apps", gateway.NAMESPACE):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.apply(
        [
            config_map(gateway.CONFIG, gateway.FILE, yaml.safe_dump(config)),
            config_map(gateway.TOKENS, "tokens.yaml", tokens or (BASE / "tokens.yaml").read_text()),
        ]
    )
    for name in (gateway.NAME, gateway.RATELIMIT):
        ports = [{"name": "http", "port": 8080}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": gateway.NAMESPACE},
        }
        cluster.apply({**service, "spec": {"selector": {"app": name}, "ports": ports}})
        cluster.put(
            pod(f"{name}-0", {"containers": [{"name": "main"}]}, gateway.NAMESPACE, labels={"app": name})
        )
        endpoints(name, f"{name}-0", namespace=gateway.NAMESPACE)(cluster)
    gateway.ensure_keys(cluster)
    gateway_serves()(cluster)
    return cluster


def manager(config: dict[str, Any]) -> Any:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def rate_limits(config: dict[str, Any]) -> Any:
    host = manager(config)["route_config"]["virtual_hosts"][0]
    return host["typed_per_filter_config"][RATE_LIMIT]["rate_limits"]


def test_both_deployments_carry_the_checksum_of_their_configuration() -> None:
    for manifest, file in (("deployment.yaml", "envoy.yaml"), ("ratelimit.yaml", "tokens.yaml")):
        documents = list(yaml.safe_load_all((BASE / manifest).read_text()))
        deployment = next(item for item in documents if item["kind"] == "Deployment")
        written = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        assert written == config_checksum({file: (BASE / file).read_text()}), f"{manifest}: the sum of {file}"


def test_another_configuration_makes_other_pods() -> None:
    deployment = next(
        item
        for item in yaml.safe_load_all((BASE / "deployment.yaml").read_text())
        if item["kind"] == "Deployment"
    )
    changed = config_map(gateway.CONFIG, gateway.FILE, "another")
    _, summed = gateway.with_checksums([changed, deployment])
    annotations = summed["spec"]["template"]["metadata"]["annotations"]
    assert annotations[gateway.CHECKSUM] == config_checksum({gateway.FILE: "another"})
    assert gateway.with_checksums([deployment]) == [deployment], "without its ConfigMap it stays as it is"


def test_the_administration_of_envoy_listens_on_loopback_only() -> None:
    config = yaml.safe_load(ENVOY)
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_keys_are_made_once_and_the_token_is_the_same_on_both_sides() -> None:
    cluster = a_gateway()
    view = cluster.view()
    before = gateway.keys(view)
    assert set(before) == set(gateway.TENANTS)
    assert len(set(before.values())) == len(before)
    assert gateway.ensure_keys(cluster) == []
    assert gateway.keys(view) == before
    secrets = [
        view.get("Secret", gateway.KEYS, gateway.NAMESPACE),
        view.get("Secret", gateway.APPS_SECRET, gateway.APPS),
    ]
    first, second = (base64.b64decode(item.raw["data"][gateway.TOKEN]) for item in secrets)
    assert first == second != b""


def test_a_token_that_is_there_is_taken_over() -> None:
    cluster = FakeCluster()
    for name in ("llm-apps", gateway.NAMESPACE):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.apply([gateway.secret(gateway.APPS_SECRET, gateway.APPS, {gateway.TOKEN: "there"})])
    gateway.ensure_keys(cluster)
    found = cluster.view().get("Secret", gateway.KEYS, gateway.NAMESPACE).raw["data"]
    assert base64.b64decode(found[gateway.TOKEN]) == b"there"


def test_json_and_streams_spend_the_same_budget() -> None:
    view = a_gateway().view()
    key = gateway.keys(view)["docs"]
    first = gateway.ask(view, key, "?", body={"tokens": 1000})
    assert (first.status, first.left, first.limit, first.tokens) == (200, 60000, 60000, 1000)
    assert gateway.left(view, key).left == 59000
    stream = gateway.ask(view, key, "?", stream=True, body={"tokens": 500})
    assert (stream.tokens, len(stream.events)) == (500, 1)
    found = gateway.left(view, key)
    assert (found.status, found.code, found.left) == (404, "thread_not_found", 58500)


def test_a_key_that_has_spent_its_tokens_is_told_when_to_come_back() -> None:
    view = a_gateway().view()
    keys = gateway.keys(view)
    assert gateway.ask(view, keys["trial"], "?", body={"tokens": 700}).status == 200, (
        "what crosses the line is answered"
    )
    refused = gateway.ask(view, keys["trial"], "?")
    assert (refused.status, refused.code, refused.left) == (429, "tokens_spent", 0)
    assert refused.retry_after_s
    assert gateway.ask(view, keys["docs"], "?").status == 200, "each key has its own budget"


def test_without_a_key_nobody_is_answered() -> None:
    view = a_gateway().view()
    assert (gateway.ask(view, "", "?").status, gateway.ask(view, "guessed", "?").code) == (401, "no_such_key")


def one_a_request(config: dict[str, Any]) -> None:
    actions = rate_limits(config)[0]["actions"]
    rate_limits(config)[:] = [{"actions": actions}]


def on_the_route(config: dict[str, Any]) -> None:
    host = manager(config)["route_config"]["virtual_hosts"][0]
    host["rate_limits"] = host.pop("typed_per_filter_config")[RATE_LIMIT]["rate_limits"][1:]


def json_only(config: dict[str, Any]) -> None:
    filters = manager(config)["http_filters"]
    filters[:] = [item for item in filters if item["name"] != "envoy.filters.http.sse_to_metadata"]


@pytest.mark.parametrize("edit", [one_a_request, on_the_route])
def test_a_limit_that_counts_requests_is_seen_by_two_answers_that_cost_the_same(edit: Any) -> None:
    view = a_gateway(edit).view()
    key = gateway.keys(view)["docs"]
    for _ in range(2):
        gateway.ask(view, key, "?", body={"tokens": 1000})
    assert gateway.left(view, key).left == 59998


def test_streams_that_are_not_counted_cost_nothing() -> None:
    view = a_gateway(json_only).view()
    key = gateway.keys(view)["docs"]
    gateway.ask(view, key, "?", stream=True, body={"tokens": 1000})
    assert gateway.left(view, key).left == 60000


def test_a_limit_by_address_is_one_for_all_keys() -> None:
    def by_address(config: dict[str, Any]) -> None:
        for limit in rate_limits(config):
            limit["actions"] = [{"remote_address": {}}]

    tokens = "domain: llm-gateway\ndescriptors:\n- key: remote_address\n  rate_limit: {unit: hour, requests_per_unit: 60000}\n"
    view = a_gateway(by_address, tokens).view()
    keys = gateway.keys(view)
    gateway.ask(view, keys["docs"], "?", body={"tokens": 1000})
    assert gateway.left(view, keys["research"]).left == 59000


@pytest.mark.parametrize(("denies", "status"), [(True, 503), (False, 200)])
def test_what_happens_when_nobody_counts_is_the_configuration_s_choice(denies: bool, status: int) -> None:
    def choose(config: dict[str, Any]) -> None:
        limit = next(item for item in manager(config)["http_filters"] if item["name"] == RATE_LIMIT)
        limit["typed_config"]["failure_mode_deny"] = denies

    cluster = a_gateway(choose)
    for slice_ in cluster.view().list("EndpointSlice", gateway.NAMESPACE):
        if slice_.name.startswith(gateway.RATELIMIT):
            cluster.delete("EndpointSlice", slice_.name, gateway.NAMESPACE)
    view = cluster.view()
    assert gateway.ask(view, gateway.keys(view)["docs"], "?").status == status


def test_a_gateway_without_pods_is_the_environment_s_fault() -> None:
    cluster = a_gateway()
    cluster.backend.http_handlers.clear()
    view = cluster.view()
    with pytest.raises(gateway.GatewaySilent):
        gateway.ask(view, gateway.keys(view)["docs"], "?")
