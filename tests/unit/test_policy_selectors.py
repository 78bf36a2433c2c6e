"""Label selectors, clause by clause of metav1.LabelSelector."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from helpers.cluster.selectors import matches
from helpers.embedded.policy.model import Namespace, Pod, State
from helpers.embedded.policy.population import Population


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        (None, {"a": "1"}, False),
        ({}, {"a": "1"}, True),
        ({}, None, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1", "b": "x"}}, {"a": "1", "b": "2"}, False),
        ({"matchLabels": {"a": "1"}}, None, False),
        (expression("a", "In", "1", "2"), {"a": "2"}, True),
        (expression("a", "In", "1"), {"b": "1"}, False),
        (expression("a", "NotIn", "1"), {"a": "1"}, False),
        (expression("a", "NotIn", "1"), {"b": "1"}, True),
        (expression("a", "Exists"), {"a": ""}, True),
        (expression("a", "Exists"), {}, False),
        (expression("a", "DoesNotExist"), {}, True),
        (expression("a", "DoesNotExist"), {"a": ""}, False),
        ({"matchLabels": {"a": "1"}, **expression("b", "Exists")}, {"a": "1"}, False),
        ({"matchLabels": {"a": "1"}, **expression("b", "Exists")}, {"a": "1", "b": "2"}, True),
    ],
)
def test_a_selector_selects_as_the_api_defines(selector: Any, labels: Any, selected: bool) -> None:
    assert matches(selector, labels) is selected


def test_an_operator_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="Near"):
        matches(expression("a", "Near", "1"), {"a": "1"})


def test_the_label_index_answers_as_the_plain_function_does() -> None:
    rng = random.Random(7)
    choices = [{}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}]
    pods = tuple(
        Pod(str(i), rng.choice(["x", "y", "z"]), f"p{i}", rng.choice(choices), f"10.244.0.{i}")
        for i in range(2, 60)
    )
    spaces = tuple(Namespace(n, n, {"name": n, "a": "1"} if n != "z" else {}) for n in ("x", "y", "z"))
    population = Population(State(pods, spaces))
    labels_of = {space.name: space.labels for space in spaces}
    operators = [expression("a", "In", "1"), expression("a", "NotIn", "1"), expression("b", "Exists")]
    selectors: list[Any] = [None, {}, {"matchLabels": {"a": "1"}}, {"matchLabels": {"a": "1", "b": "1"}}]
    selectors += [*operators, {"matchLabels": {"b": "1"}, **operators[0]}, {"matchLabels": {"a": "9"}}]
    for space, pod in itertools.product(selectors, selectors):
        peer = {"namespaceSelector": space, "podSelector": pod}
        expected = {
            p.address
            for p in pods
            if (p.namespace == "x" if space is None else matches(space, labels_of[p.namespace]))
            and (pod is None or matches(pod, p.labels))
        }
        assert population.peers(peer, "x") == expected, peer
