"""The regression set of the cluster: its rows, and one more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helpers.apps.evals import rows
from helpers.errors import StepMissing
from helpers.stack import assistant, evals

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

FILE = "regression.jsonl"


def regression_rows(view: ClusterView) -> list[rows.Row]:
    """The rows of the regression set that can be read."""
    return rows.parse("regression", evals.sets_in(view).get("regression", ""))[0]


def add_row(cluster: Cluster, row: Mapping[str, Any]) -> str:
    """Add a row to the regression set in the ConfigMap, in place of one with its id; the set's new text.

    Raises:
        StepMissing: it is no row, or breaks the sets' hygiene.
    """
    there = evals.sets_in(cluster.view())
    kept = [
        line
        for line in there.get("regression", "").splitlines()
        if line.strip() and _id(line) != row.get("id")
    ]
    text = "\n".join([*kept, json.dumps(dict(row), ensure_ascii=False)]) + "\n"
    flaws = [flaw for flaw in rows.hygiene({**there, "regression": text}) if "regression" in flaw.where]
    if flaws:
        raise StepMissing(f"The row cannot be used: {flaws[0]}")
    assistant.put_data(cluster, assistant.SETS, {FILE: text})
    return text


def _id(line: str) -> str:
    try:
        return str(json.loads(line).get("id", ""))
    except (ValueError, AttributeError):
        return ""
