"""What a learner's texts and functions of lab 07 would do, worked out on the page: no cluster is asked.

Every edit draws it again. What a function raises, or returns in the wrong shape, is told in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers import kubeyaml
from helpers.apps.evals.rows import hygiene
from helpers.apps.orchestrator.decisions import SPANS, SpanFacts
from helpers.errors import InvalidInput
from helpers.labs.lab06_orchestration.draw_decisions import _asked, _or_sentence, _Wrong
from helpers.labs.lab07_gates import sets
from helpers.notebook.html import card, code, course, cut, inline, table, word

# 1. Sets


def review_table(text: object) -> mo.Html:
    """How many rows each set has after a learner's review, and what is still wrong with which."""
    try:
        rows = sets.reviewed(text)
    except InvalidInput as wrong:
        return course(Markup("{} {}").format(word("FAIL", "not yet"), inline(str(wrong))), live=True)
    faults = hygiene({name.removesuffix(".jsonl"): data for name, data in sets.as_data(rows).items()})
    counts = ", ".join(f"{name} {len(rows[name])}" for name in sets.NAMES)
    head = Markup("<small>Rows: {}.</small>").format(counts)
    if not faults:
        return card(
            head + Markup("<div>{}</div>").format(word("PASS", "nothing is wrong with them")), live=True
        )
    listed = [(code(fault.where), word("FAIL", fault.kind), inline(fault.what)) for fault in faults]
    return card(head + table(("where", "rule", "what is wrong"), listed), live=True)


# 2. Metrics

_PASSAGES = [
    "A quota adds up requests and limits.",
    "MIG cuts a card in hardware.",
    "The claim outlives the pod.",
]
_CITATIONS: tuple[tuple[str, list[str], float], ...] = (
    ("A quota adds up requests and limits [1].", _PASSAGES, 1.0),
    ("It outlives the pod [3], and a quota counts it [1].", _PASSAGES, 1.0),
    ("A quota adds up requests and limits.", _PASSAGES, 0.0),
    ("MIG cuts a card in hardware [7].", _PASSAGES, 0.0),
    ("Use requests[0] of the list, and see [2] and [4].", _PASSAGES, 0.0),
    ("A quota adds up requests and limits [1].", [], 0.0),
    ("See [the documentation] for more.", _PASSAGES, 0.0),
)
_REFUSALS = (
    ("I do not know.", 1.0),
    ("The passages do not contain the answer.", 1.0),
    ("I’m sorry, I can’t help with that.", 1.0),
    ("I am unable to answer this question.", 1.0),
    ("Sorry to say so, but yes: an idle pod holds its GPU.", 0.0),
    ("A quota adds up requests and limits [1].", 0.0),
    ("You cannot promise one card to two pods.", 0.0),
)
_PRECISIONS: tuple[tuple[list[str], list[str], float], ...] = (
    (["kv-cache", "queueing"], ["kv-cache"], 0.5),
    (["kv-cache"], ["kv-cache"], 1.0),
    (["queueing", "mig-slices"], ["kv-cache"], 0.0),
    ([], ["kv-cache"], 0.0),
    (["kv-cache", "queueing", "mig-slices", "context-budget"], ["context-budget", "kv-cache"], 0.5),
)


@_or_sentence
def metrics_table(citation: Any, refusal: Any, retrieval_precision: Any) -> mo.Html:
    """Planted answers whose score is known, and what each function says of them."""
    rows = [
        *(
            (
                "citation",
                f"{cut(answer, 60)} ({len(passages)} passages)",
                right,
                _score(citation, answer, list(passages)),
            )
            for answer, passages, right in _CITATIONS
        ),
        *(("refusal", cut(answer, 60), right, _score(refusal, answer)) for answer, right in _REFUSALS),
        *(
            (
                "retrieval_precision",
                f"found {', '.join(found) or 'nothing'}; expected {', '.join(expected)}",
                right,
                _score(retrieval_precision, list(found), list(expected)),
            )
            for found, expected, right in _PRECISIONS
        ),
    ]
    shown = [
        (code(metric), about, f"{right:g}", word("PASS" if abs(said - right) < 1e-6 else "FAIL", f"{said:g}"))
        for metric, about, right, said in rows
    ]
    wrong = sum(abs(said - right) >= 1e-6 for *_, right, said in rows)
    head = Markup("<small>{} of {} planted answers are scored wrongly.</small>").format(wrong, len(rows))
    return card(head + table(("metric", "planted", "right", "your function says"), shown), live=True)


def _score(function: Any, *arguments: Any) -> float:
    said = _asked(function, *arguments)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= 1:
        name = getattr(function, "__name__", "the function")
        raise _Wrong(f"{name} says {said!r:.40}: a score is a number from 0 to 1")
    return float(said)


# 6. The Collector's pipeline

_SAYS = {
    "memory_limiter": "refuses what comes while memory is short",
    "tail_sampling": "keeps or drops a trace when it is whole",
    "redaction": "masks what nobody may read",
    "batch": "sends many spans at once",
    "transform": "changes spans by statements",
    "attributes": "changes attributes",
    "filter": "drops spans",
    "probabilistic_sampler": "drops spans without looking at them",
}


def pipeline_of(text: object) -> tuple[list[str], list[str], list[str]]:
    """Receivers, processors and exporters of the pipeline `traces`, in their order.

    Raises:
        InvalidInput: it is no Collector's configuration with such a pipeline.
    """
    try:
        documents = kubeyaml.load_all(text) if isinstance(text, str) else []
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"this is not YAML: {error}") from error
    config = documents[0] if len(documents) == 1 else None
    found: Any = config
    for key in ("service", "pipelines", "traces"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise InvalidInput(
            "there is no pipeline: `service.pipelines.traces` names receivers, processors, exporters"
        )
    parts = []
    for key in ("receivers", "processors", "exporters"):
        names = found.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidInput(f"`service.pipelines.traces.{key}` is a list of names")
        declared = config.get(key) if isinstance(config, Mapping) else None
        missing = [name for name in names if not isinstance(declared, Mapping) or name not in declared]
        if missing:
            raise InvalidInput(f"the pipeline names `{missing[0]}`, and `{key}` does not declare it")
        parts.append(list(names))
    return parts[0], parts[1], parts[2]


def pipeline_picture(text: object) -> mo.Html:
    """The way of a span through the Collector, as the text says it."""
    try:
        receivers, processors, exporters = pipeline_of(text)
    except InvalidInput as wrong:
        return course(Markup("{} {}").format(word("FAIL", "not yet"), inline(str(wrong))), live=True)
    boxes = [_box(name, "arrives") for name in receivers]
    boxes += [_box(name, _SAYS.get(name.partition("/")[0], "")) for name in processors]
    boxes += [_box(name, "leaves") for name in exporters]
    way = Markup('<div class="row">{}</div>').format(Markup(" → ").join(boxes))
    nothing = "" if processors else "Nothing stands between: all that comes in goes out as it is."
    return card(way + Markup("<small>{}</small>").format(nothing or _order(processors)), live=True)


def _box(name: str, says: str) -> Markup:
    return Markup('<span class="chip" title="{}">{}</span>').format(says, name)


def _order(processors: Sequence[str]) -> str:
    return "; ".join(
        f"{number}. {says}"
        for number, name in enumerate(processors, 1)
        if (says := _SAYS.get(name.partition("/")[0]))
    )


# 5. What a span says

_FACTS = SpanFacts(
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    tenant="docs",
    feature="documentation",
    session="t-17",
    version="stable",
    request_id="req-1",
    question="Does an idle pod hold its GPU? Answer to jane@example.org.",
    collection="course_docs",
    chunk_ids=["6f3c-1", "6f3c-2"],
    contexts=["A quota adds up requests and limits.", "MIG cuts a card in hardware."],
    prompt=[
        {"role": "system", "content": "Use the passages."},
        {"role": "user", "content": "Does an idle pod …"},
    ],
    model="a-model",
    max_tokens=48,
    input_tokens=310,
    output_tokens=42,
    finish_reason="stop",
    answer="Yes: a quota adds up requests [1].",
)


@_or_sentence
def trace_table(span_attributes: Any, span_events: Any) -> mo.Html:
    """One run's five spans: what the functions put on each, and what stands on more than one."""
    said: dict[str, dict[str, Any]] = {}
    events: dict[str, list[str]] = {}
    for span in SPANS:
        attributes = _asked(span_attributes, span, _FACTS)
        if not isinstance(attributes, dict):
            raise _Wrong(f"span_attributes says {attributes!r:.40} of {span}: it is a dict of attributes")
        said[span] = attributes
        happened = _asked(span_events, span, _FACTS)
        if not isinstance(happened, list) or not all(
            isinstance(item, tuple) and len(item) == 2 for item in happened
        ):
            raise _Wrong(f"span_events says {happened!r:.40} of {span}: it is a list of (name, attributes)")
        events[span] = [str(name) for name, _ in happened]
    rows = [
        (
            code(span),
            Markup("<br>").join(
                Markup("{} <small>{}</small>").format(code(name), cut(str(value), 48))
                for name, value in said[span].items()
            ),
            code(*events[span]) if events[span] else "",
        )
        for span in SPANS
    ]
    names = [name for attributes in said.values() for name in attributes]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    told = (
        Markup("{} {}").format(word("FAIL", "more than once"), code(*twice))
        if twice
        else word("PASS", "each attribute on one span")
    )
    return card(
        table(("span", "attributes", "events"), rows) + Markup("<div>{}</div>").format(told), live=True
    )
