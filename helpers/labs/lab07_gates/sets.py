"""The three data sets as the lab's start has them, with six faults, and as a learner's review leaves them.

What is right is the course's own data (`helpers/apps/evals/data/`). A review names rows to drop and fields to
change; it is laid over the rows that the start has, and the result goes into ConfigMap `llm-eval-sets`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from helpers import kubeyaml
from helpers.errors import InvalidInput
from helpers.settings import REPOSITORY

DATA = REPOSITORY / "helpers" / "apps" / "evals" / "data"
NAMES = ("golden", "regression", "adversarial")
Row = dict[str, Any]

# What a colleague added in a hurry. Each has one fault, and each is found by another rule.
FAULTS: Mapping[str, Sequence[Row]] = {
    "golden": (
        {
            "id": "idle-pod-again",
            "question": "does an idle pod still use up the  gpu quota",
            "expected": {
                "behaviour": "answer",
                "chunks": ["quota-counts-requests"],
                "reference": "Yes. A quota adds up requests and limits, not real use.",
            },
            "tags": ["tier=pr", "domain=substrate"],
        },
        {
            "id": "window-leak",
            "question": "Is it true that prompt and answer share max-model-len, so that a longer prompt leaves less room?",
            "expected": {
                "behaviour": "answer",
                "chunks": ["context-budget"],
                "reference": "prompt and answer share max-model-len",
            },
            "tags": ["tier=pr", "domain=inference"],
        },
        {
            "id": "kv-cache-keeps",
            "question": "What does the KV cache keep, and what does it limit?",
            "expected": {
                "behaviour": "answer",
                "chunks": ["kv-cash"],
                "reference": "The keys and values of every running sequence's tokens: it limits how many run at once.",
            },
            "tags": ["tier=promotion", "domain=inference"],
        },
        {
            "id": "quota-idle",
            "question": "How do I see what a namespace has left of its quota?",
            "expected": {
                "behaviour": "answer",
                "chunks": ["quota-every-dimension"],
                "reference": "kubectl describe quota shows used and hard of each resource.",
            },
            "tags": ["tier=promotion", "domain=substrate"],
        },
    ),
    "regression": (
        {
            "id": "r-model-name",
            "question": "Why do I get 404 from vLLM although it is healthy?",
            "expected": {
                "behaviour": "answer",
                "chunks": ["wrong-model-404"],
                "reference": "The model's name is not the one that is served.",
            },
            "tags": ["tier=pr", "domain=inference"],
            "source": "field:lab-02",
            "anwser": "The model's name is not the one that is served.",
        },
    ),
    "adversarial": (
        {
            "id": "a-poem",
            "question": "Write a poem about autumn.",
            "expected": {"behaviour": "ignore", "chunks": [], "reference": ""},
            "tags": ["tier=pr", "risk=out-of-scope"],
        },
    ),
}


@cache
def _texts() -> Mapping[str, str]:
    return {name: (DATA / f"{name}.jsonl").read_text() for name in NAMES}


def right_rows(name: str) -> list[Row]:
    """The rows of one of the course's own sets."""
    return [json.loads(line) for line in _texts()[name].splitlines() if line.strip()]


def given_rows() -> dict[str, list[Row]]:
    """All rows that the lab's start has, by set: the right ones, and the faulty ones after them."""
    return {name: [*right_rows(name), *json.loads(json.dumps(FAULTS[name]))] for name in NAMES}


def as_data(rows: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Sets as the ConfigMap holds them: a file each, a row a line."""
    return {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[name])
        for name in rows
    }


def given_sets() -> dict[str, str]:
    """The data of ConfigMap `llm-eval-sets` in the lab's start."""
    return as_data(given_rows())


def is_given(data: Mapping[str, str]) -> bool:
    """Whether the sets are still those of the start."""
    return dict(data) == given_sets()


def reviewed(text: object) -> dict[str, list[Row]]:
    """The rows after a learner's review.

    Args:
        text: YAML with `drop` (ids; of two rows with one id the later one goes) and `change` (id: fields).

    Raises:
        InvalidInput: it is no review, or names a row that is not there.
    """
    drop, change = _review(text)
    rows = given_rows()
    for wanted in drop:
        found = next(
            ((name, row) for name in NAMES for row in reversed(rows[name]) if row["id"] == wanted), None
        )
        if found is None:
            raise InvalidInput(f"`drop` names `{wanted}`: there is no such row, or it was dropped already")
        kept = rows[found[0]]
        rows[found[0]] = [row for row in kept if row is not found[1]]
    for wanted, fields in change.items():
        found_row = next((row for name in NAMES for row in reversed(rows[name]) if row["id"] == wanted), None)
        if found_row is None:
            raise InvalidInput(f"`change` names `{wanted}`: there is no such row")
        _lay_over(found_row, fields)
    return rows


def _review(text: object) -> tuple[list[str], dict[str, Mapping[str, Any]]]:
    try:
        documents = kubeyaml.load_all(text) if isinstance(text, str) else []
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"this is not YAML: {error}") from error
    review = documents[0] if len(documents) == 1 else None
    if not isinstance(review, Mapping) or not set(review) <= {"drop", "change"}:
        raise InvalidInput("a review is one mapping with `drop` and `change`")
    drop, change = review.get("drop") or [], review.get("change") or {}
    if not isinstance(drop, list) or not all(isinstance(item, str) for item in drop):
        raise InvalidInput("`drop` is a list of ids")
    if not isinstance(change, Mapping) or not all(isinstance(item, Mapping) for item in change.values()):
        raise InvalidInput("`change` has an id in each line, and under it the fields as they should be")
    return list(drop), {str(name): fields for name, fields in change.items()}


def _lay_over(row: Row, fields: Mapping[str, Any]) -> None:
    """Fields over a row: mappings are laid into each other, null takes a field out."""
    for name, value in fields.items():
        if value is None:
            row.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(row.get(name), dict):
            _lay_over(row[name], value)
        else:
            row[name] = value
