"""The metrics as DeepEval has them: a test case a row, and a BaseMetric around each function of `measures`.

DeepEval is in the image alone; nothing but the runner imports this module. It is kept off the network: no
telemetry, no error reports, no `.env`.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.update(
    DEEPEVAL_TELEMETRY_OPT_OUT="YES",
    DEEPEVAL_UPDATE_WARNING_OPT_IN="NO",
    DEEPEVAL_DISABLE_DOTENV="1",
    ERROR_REPORTING="NO",
)

from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase

from helpers.apps.evals import measures
from helpers.apps.evals.asking import Reply
from helpers.apps.evals.rows import Row


class RowMetric(BaseMetric):
    """One of the course's metrics. A row it does not apply to has no score, and is no failure."""

    async_mode = False
    include_reason = False
    evaluation_model = None
    strict_mode = False

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self._options = name, options
        self.threshold, self.success, self.error = 0.0, True, None
        self.score: float | None = None

    def measure(self, test_case: LLMTestCase, *_: Any, **__: Any) -> float | None:
        about = test_case.metadata or {}
        self.score = measures.score(self.name, about["row"], about["reply"], **self._options)
        return self.score

    async def a_measure(self, test_case: LLMTestCase, *_: Any, **__: Any) -> float | None:
        return self.measure(test_case)

    def is_successful(self) -> bool:
        return bool(self.success)

    @property
    def __name__(self) -> str:
        return str(self.name)


def case(row: Row, reply: Reply) -> LLMTestCase:
    """A row and its reply as DeepEval calls them."""
    return LLMTestCase(
        input=row.question,
        actual_output=reply.text,
        expected_output=row.reference or None,
        retrieval_context=reply.contexts or None,
        metadata={"row": row, "reply": reply},
    )


def score(name: str, row: Row, reply: Reply, **options: Any) -> float | None:
    """What `measures.score` says, by way of DeepEval."""
    value: float | None = RowMetric(name, **options).measure(case(row, reply))
    return value
