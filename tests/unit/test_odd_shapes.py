"""A check meets objects in every shape that the API server allows: what an object may lack breaks none.

Each lab's solved fake cluster loses one field after the other, of all objects of a kind at once. A check may
then fall short, or say that it cannot tell; that it breaks is never the learner's fault, and is the author's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.grading import grade
from helpers.grading.author import SOLUTION, fake_clusters
from helpers.grading.testing import VirtualRuntime
from helpers.labs.registry import lab_ids, load_lab, load_proofs
from helpers.settings import REPOSITORY

# What every object of its kind has: the API server refuses it without.
REQUIRED = {
    *("apiVersion", "kind", "metadata", "name", "namespace", "uid", "resourceVersion", "creationTimestamp"),
    *("spec", "selector", "template", "containers", "containerPort", "mountPath", "key", "operator"),
}


@cache
def fields_that_code_names() -> frozenset[str]:
    """Every word between quotes or dots in the texts of the labs' and the stack's code: other fields are not read."""
    files = [
        file
        for room in ("labs", "stack", "chaos", "cluster")
        for file in (REPOSITORY / "helpers" / room).rglob("*.py")
    ]
    literals = (text for file in files for text in re.findall(r'"([\w./-]+)"', file.read_text()))
    return frozenset(word for text in literals for word in {text, *text.split(".")})


def _fields(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from _fields(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _fields(item)


def without_field(tree: Any, field: str) -> Any:
    if isinstance(tree, dict):
        return {key: without_field(value, field) for key, value in tree.items() if key != field}
    return [without_field(item, field) for item in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("number", lab_ids())
def test_a_field_that_may_be_absent_breaks_no_check(number: str, tmp_path: Path) -> None:
    cluster = fake_clusters(load_proofs(number))(SOLUTION)
    assert isinstance(cluster, FakeCluster)
    solved = cluster.state()
    read = fields_that_code_names() - REQUIRED
    odd = sorted(
        {
            (key[1], field)
            for key, item in cluster.backend.objects.items()
            for field in _fields(item)
            if field in read
        }
    )
    assert len(odd) > 20
    broken = []
    for kind, field in odd:
        cluster.restore(solved)
        for key, item in list(cluster.backend.objects.items()):
            if key[1] == kind:
                cluster.backend.objects[key] = without_field(item, field)
        home = tmp_path / f"{kind}-{field.replace('/', '-')}"
        report = grade([load_lab(number)], cluster, journals=home, runtime=VirtualRuntime())
        broken += [
            f"{kind} without {field}: {result.check}: {result.observed}"
            for result in report.verdicts
            if "the check itself broke" in result.observed
        ]
    assert broken == []
