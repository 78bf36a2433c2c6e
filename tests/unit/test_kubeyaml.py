"""YAML as kubectl reads it: odd values, against what kubectl 1.36 itself made of them.

`kubeyaml_table.json` was written by `kubectl create --dry-run=client -o json -f -`, a value a time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers import kubeyaml
from helpers.cluster.backend import encode
from helpers.cluster.manifests import load


def _int64(text: str) -> int | float:
    """A number in JSON as the API server holds it."""
    return int(text) if -(2**63) <= int(text) < 2**63 else float(text)


TABLE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("kubeyaml_table.json").read_text(), parse_int=_int64
)
FROM_THE_FIELD = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: demo
  namespace: default
  annotations: {reviewed: 2026-11-28}
data: {8080: web, note: "ready 🚀", time: 12:30:45}
"""


@pytest.mark.parametrize("row", TABLE, ids=[row["yaml"] for row in TABLE])
def test_a_value_is_what_kubectl_makes_of_it(row: dict[str, Any]) -> None:
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\nvalue: {row['yaml']}\n"
    if "refused" in row:
        with pytest.raises(kubeyaml.NotYaml) as caught:
            kubeyaml.load(text)
        assert len(str(caught.value).splitlines()) == 1
    else:
        found = kubeyaml.load(text)["value"]
        assert found == row["json"] and isinstance(found, bool) == isinstance(row["json"], bool)


@pytest.mark.parametrize("row", [row for row in TABLE if "json" in row], ids=lambda row: row["yaml"])
def test_what_is_written_is_read_back_as_it_was(row: dict[str, Any]) -> None:
    tree = {"value": row["json"], "text": row["yaml"], row["yaml"]: 1}
    assert kubeyaml.load(kubeyaml.dump(tree)) == tree


def test_a_manifest_from_the_field_has_text_where_kubernetes_has_text() -> None:
    (found,) = load(FROM_THE_FIELD)
    assert found["metadata"]["annotations"] == {"reviewed": "2026-11-28"}
    assert found["data"] == {"8080": "web", "note": "ready 🚀", "time": "12:30:45"}


def test_a_request_is_yaml_too_with_any_character() -> None:
    """Server-side apply's body is read as YAML, which knows no surrogate pairs and no raw U+0085 or U+007F."""
    tree = {"a": "🚀 \U0001f1e9", "b": "é\x7f\x85\u2028\ufeff", "c": "\x00\x1b\n", "d": r"\ud83d"}
    body = encode(tree)
    assert body is not None
    assert json.loads(body) == tree and kubeyaml.load(body.decode()) == tree
    assert "🚀".encode() in body and b"\\u0085" in body


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{a: " * 5_000,
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "a: &a {b: *a}",
        "\x00",
        "a: \x07",
        "a: 1\nb",
        "--- a\n--- b",
        "<<: 1",
        "? {a: 1}\n: b",
        "!!map [a, b]: c\n: d",
        "&a : *a",
    ],
)
def test_what_is_no_manifest_is_a_sentence(text: str) -> None:
    with pytest.raises(kubeyaml.NotYaml) as caught:
        kubeyaml.load(text)
    assert str(caught.value).strip() and len(str(caught.value).splitlines()) == 1
