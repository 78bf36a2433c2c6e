"""No mistake in YAML becomes a traceback: each lab's YAML, given and solved, with every field made wrong in turn."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers import kubeyaml
from helpers import notebook as nb
from helpers.cluster import Scope
from helpers.cluster.fake import FakeCluster
from helpers.cluster.manifests import load
from helpers.errors import LabError
from helpers.labs.lab01_substrate import draw_quota
from helpers.labs.lab02_inference import draw as draw_inference
from helpers.labs.lab03_memory import draw as draw_memory
from helpers.notebook.session import LabSession
from helpers.settings import REPOSITORY
from helpers.stack.policy_forecast import Party, World, decide
from helpers.stack.serving import DrainBudget, load_budget_s

WRONG: tuple[Any, ...] = (["a"], [None], "x/y", "", -7, True, None, {}, {"a": {"b": 1}})
PARTIES = [
    Party("vllm-0", "llm-system", {"app": "vllm"}, "10.0.0.1", {("http", "TCP"): 8000}, "node"),
    Party("client", "llm-apps", {"app": "llm-client"}, "10.0.0.2", {}, "node"),
    Party("elsewhere", None, {}, "2001:db8::1"),
]
LABELS = {"llm-system": {"kubernetes.io/metadata.name": "llm-system"}, "llm-apps": {"team": "apps"}}
VLLM = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "vllm", "namespace": "llm-system"},
    "spec": {"template": {"spec": {"containers": [{"name": "vllm", "image": "v"}]}}},
}


def _written(path: Path) -> Iterator[Any]:
    """The YAML texts that a notebook's cells assign."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            (target,) = node.targets
            if isinstance(target, ast.Name) and target.id.endswith("_yaml") and node.value.value.strip():
                yield pytest.param(dedent(node.value.value), id=f"{path.parent.name}-{path.stem}-{target.id}")


TEXTS = [found for folder in ("labs", "solutions") for path in sorted((REPOSITORY / folder).glob("0*.py"))
         for found in _written(path)]  # fmt: skip


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from _paths(value, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _mutants(documents: list[Any]) -> Iterator[list[Any]]:
    """Each value replaced by three wrong ones (other fields take the next three), each key left out or misspelled."""
    for number, path in enumerate(_paths(documents)):
        if not path:
            continue
        for wrong in WRONG[number % 3 :: 3]:
            mutant = deepcopy(documents)
            _at(mutant, path[:-1])[path[-1]] = wrong
            yield mutant
        mutant = deepcopy(documents)
        value = _at(mutant, path[:-1]).pop(path[-1])
        yield mutant
        if isinstance(path[-1], str):
            mutant = deepcopy(mutant)
            _at(mutant, path[:-1])[f"{path[-1]}s"] = value
            yield mutant


def _sentence_or_nothing(called: Callable[[], Any]) -> None:
    """A panel draws, or raises what a page shows as one sentence; any other exception fails the test."""
    try:
        called()
    except LabError as error:
        assert str(error).strip()


def _as_text(documents: list[Any]) -> str:
    return "---\n".join(map(kubeyaml.dump, documents))


@pytest.mark.parametrize("text", TEXTS)
def test_every_picture_survives_every_typing_error(text: str) -> None:
    cluster = FakeCluster()
    lab = LabSession("01", cluster, cluster.identity(), cluster.profile())
    world, count = World(LABELS), 0
    for mutant in _mutants(kubeyaml.load_all(text)):
        wrong, count = _as_text(mutant), count + 1

        def forecast(wrong: str = wrong) -> None:
            then = world.with_manifests(wrong)
            for source in PARTIES:
                for target in PARTIES[:2]:
                    decide(then, source, target, 8000)

        _sentence_or_nothing(forecast)
        _sentence_or_nothing(lambda wrong=wrong: draw_quota.quota_picture(LabSession("01"), wrong))
        if "ConfigMap" in wrong:
            _sentence_or_nothing(lambda wrong=wrong: draw_inference.kv_picture(lab, wrong))
    assert count > 20


@pytest.mark.parametrize(
    "text", [text for text in TEXTS if "lab" in str(text.id) and "02_inference" in str(text.id)]
)
def test_every_fragment_survives_every_typing_error(text: str) -> None:
    """Lab 02's fragments are laid over a Deployment, and its budgets are read from the result."""
    cluster = FakeCluster()
    lab = LabSession("02", cluster, cluster.identity(), cluster.profile())
    for mutant in _mutants(kubeyaml.load_all(text)):

        def laid(wrong: str = _as_text(mutant)) -> None:
            (whole,) = load(draw_inference.with_fragment(lab, [VLLM], wrong))
            spec = whole["spec"]["template"]["spec"]
            DrainBudget.of(spec)
            for container in spec["containers"]:
                load_budget_s(container)

        _sentence_or_nothing(laid)


@pytest.mark.parametrize("text", [text for text in TEXTS if "solutions" in str(text.id)])
def test_the_apply_panel_survives_odd_objects_and_names(text: str) -> None:
    """What the course itself reads of an object on its way: its kind, its place, and in a class every name."""
    scoped = FakeCluster(scope=Scope("ada"))
    lab = LabSession("01", scoped, scoped.identity(), scoped.profile())
    documents = kubeyaml.load_all(text)
    heads = [
        {key: value for key, value in item.items() if key in ("apiVersion", "kind", "metadata")}
        for item in documents
    ]
    for mutant in _mutants(heads):
        _sentence_or_nothing(lambda wrong=mutant: nb.preview(lab, _as_text(wrong)))
    for mutant in _mutants(documents):
        try:
            objects = load(_as_text(mutant))
        except LabError:
            continue
        for item in objects:
            _sentence_or_nothing(lambda item=item: scoped.scope.manifest(item))


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("field", ["vectors", "dimensions", "payload_bytes", "snapshots", "claim"])
def test_the_sizing_picture_survives_every_typing_error(field: str, wrong: Any) -> None:
    from helpers.labs.lab03_memory.sizing import Collection

    plan = {"vectors": 2_000_000, "dimensions": 384, "payload_bytes": 512, "snapshots": 2}
    claim = wrong if field == "claim" else "10Gi"

    def drawn() -> Any:
        return draw_memory.sizing_picture(
            Collection(**(plan | ({} if field == "claim" else {field: wrong}))), claim
        )

    _sentence_or_nothing(drawn)
