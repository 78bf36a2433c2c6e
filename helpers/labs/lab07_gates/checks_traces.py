"""Checks of parts 5 to 7: what stands on which span, what the Collector keeps and masks, and what it all cost.

What spans look like is seen by a witness that asks the real assistant and reads Phoenix; what becomes of errors,
of addresses and of answers without a Collector, by one that runs a copy of it. A record counts for as long as
`trace.py`, the OTEL settings and the Collector's configuration are what it was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import yaml

from helpers.errors import InvalidInput
from helpers.grading import Verdict, falls_short, not_attempted
from helpers.labs import witnessing
from helpers.labs.lab07_gates import witness_traces, witness_traces_program
from helpers.labs.lab07_gates.lab import lab
from helpers.labs.witnessing import several
from helpers.stack import assistant, traces

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.grading.declare import CheckFunction

FIRST_COLLECTOR = assistant.MANIFESTS.parent / "otel-collector" / "base" / assistant.COLLECTOR_FILE
# Of the good ones, a sampler keeps some: more than this is no sample.
MOST_KEPT = 0.5
# A busy machine loses an answer now and then for reasons of its own.
ANSWERED = 0.99
TIMES_AS_LONG, LONGER_MS = 3, 300
LIMITER = "memory_limiter"


def witnessed(
    name: str, undecided: Callable[[ClusterView], Verdict | None]
) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what a witness of the traces saw, if its record counts.

    Args:
        undecided: that the learner has not delivered yet what it would judge; None where they have.
    """

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            return undecided(cluster) or witnessing.verdict_on(witness_traces.BOOK, cluster, name, check)

        return judged

    return wrap


def _no_trace_file(cluster: ClusterView) -> Verdict | None:
    if witness_traces.TRACE_FILE in assistant.data_in(cluster, assistant.DECISIONS):
        return None
    where = f"ConfigMap {assistant.DECISIONS}"
    return not_attempted(f"{witness_traces.TRACE_FILE} in {where}", f"{where} has none")


def _first_collector(cluster: ClusterView) -> Verdict | None:
    """The Collector as the start has it: nobody has written a processor yet."""
    first = cluster.scope.manifest({"data": {assistant.COLLECTOR_FILE: FIRST_COLLECTOR.read_text()}})["data"]
    there = assistant.data_in(cluster, assistant.COLLECTOR_CONFIG, assistant.OBSERVABILITY)
    if there and there != first:
        return None
    where = f"ConfigMap {assistant.COLLECTOR_CONFIG}"
    return not_attempted(f"processors in {where}", f"{where} is as the start has it")


# 5. A trace is a tree


@lab.check("trace.tree", points=4, task="trace", timeout_s=10)
@witnessed("trace", _no_trace_file)
def a_question_is_a_tree(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Each question is one tree in Phoenix: who asked stands on its root alone, the retrieval names its passages, and no attribute holds the question.

    Why: What is asked of traces later is asked of attributes. Said once it is true once; a prompt among them is stored five times and masked nowhere.
    Hint: `span` says on which span you are; the root is "chat". Ids are short; texts belong into an event of one span.
    Next: course witness trace
    """
    asked = seen["asked"]
    return several(
        (seen["kept"] == asked, "each question stored", f"{seen['kept']} of {asked} questions in Phoenix"),
        (seen["tree"] == asked, "a whole tree each", f"{seen['tree']} of {asked} with all four steps"),
        (
            seen["root"] == asked,
            "tenant_id, feature, session_id and version on the root",
            f"{seen['root']} of {asked} roots with the right tenant_id, session_id, feature and version",
        ),
        (not seen["repeated"], "there alone", f"{', '.join(seen['repeated'])} on other spans too"),
        (
            seen["ids"] == asked,
            "the passages' ids on the retrieval",
            f"{seen['ids']} of {asked} retrievals name them in a list",
        ),
        (
            seen["texts"] == 0,
            "no question among attributes",
            f"{seen['texts']} spans with the question's words in an attribute",
        ),
    )


@lab.check("trace.tokens", points=3, task="trace", timeout_s=10)
@witnessed("trace", _no_trace_file)
def tokens_stand_on_the_call(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """The model's call, and no other span, says which model was asked, what it used and why it ended, as the answer itself says.

    Why: A sum over spans takes what it finds: a count on two spans is paid twice.
    Hint: The conventions: `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`, `gen_ai.response.finish_reasons`. There is no total.
    Next: course witness trace
    """
    asked = seen["asked"]
    return several(
        (
            seen["tokens"] == asked,
            "the answer's own counts on the model's call",
            f"{seen['tokens']} of {asked} calls with the answer's own counts",
        ),
        (
            seen["named"] == asked,
            "with model, provider and reason",
            f"{seen['named']} of {asked} calls with model, provider and reason",
        ),
        (not seen["elsewhere"], "nowhere else", f"{', '.join(seen['elsewhere'])}"),
    )


@lab.check("trace.context", points=3, task="trace", timeout_s=10)
@witnessed("trace", _no_trace_file)
def a_trace_goes_on(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A question that comes with a `traceparent` goes on with its caller's trace.

    Why: Each process that begins a trace of its own cuts the story: the slow call is in one half, its reason in the other.
    Hint: `OTEL_PROPAGATORS` says which headers are read, and written on the calls to vLLM and Qdrant.
    Next: course witness trace
    """
    asked = seen["asked"]
    return several(
        (
            seen["continued"] == asked,
            "each question in its caller's trace",
            f"{seen['continued']} of {asked} questions in their caller's trace",
        )
    )


# 6. The Collector


@lab.check("collector.errors", points=3, task="collector", timeout_s=10)
@witnessed("collector", _first_collector)
def every_error_is_kept(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Of two hundred questions every one that failed is kept, whole, and of the others a sample.

    Why: The trace that you will be asked for is the one that failed. A sampler that decides at the beginning cannot know which.
    Hint: The service must send them all: what its own sampler drops, nobody can keep. Then `tail_sampling` with a policy by `status_code`, and one for the rest.
    Next: course witness collector
    """
    good = sum(seen["statuses"].values()) - seen["failed"]
    # What a busy machine turned away beside those that were told to fail may never have come to a span.
    failed = min(seen["failed"], witness_traces_program.FAILED)
    return several(
        (
            min(seen["errors"], seen["whole"]) >= failed > 0,
            f"all {failed} errors kept",
            f"{min(seen['errors'], seen['whole'])} of {failed} errors kept whole",
        ),
        (
            0 < seen["good"] <= MOST_KEPT * good,
            "a sample of the rest",
            f"{seen['good']} of {good} good ones kept",
        ),
    )


@lab.check("collector.redacted", points=4, task="collector", timeout_s=10)
@witnessed("collector", _first_collector)
def nobody_is_in_the_store(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """What was said is kept for a sample, and no e-mail address or card number stands in it, neither in attributes nor in events.

    Why: Users write what they like into questions, and documents hold what they hold. A store of traces is read by many.
    Hint: The processor `redaction` masks by `blocked_values`; texts only, unless `redact_all_types` is set: a list of passages is none. What is captured, `span_events` says.
    Next: course witness collector
    """
    leaks = seen["leaks"]
    return several(
        (
            seen["captured"] > 0,
            "questions and passages captured in events",
            f"{seen['captured']} events with what was said",
        ),
        (
            leaks["attributes"] == 0,
            "none in attributes",
            f"{leaks['attributes']} spans with an address or a card number in attributes",
        ),
        (
            leaks["events"] == 0,
            "none in events",
            f"{leaks['events']} events with an address or a card number",
        ),
    )


@lab.check("collector.gone", points=4, task="collector", timeout_s=10)
@witnessed("collector", _first_collector)
def answers_do_not_wait(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """While the Collector refuses spans or is silent, a thousand questions are answered as fast as before; when it is back, spans arrive again; and it refuses before its memory is full.

    Why: Telemetry that can stop the service is one more way for it to fail, and the first to be switched off.
    Hint: `OTEL_SPAN_PROCESSOR` says whether a span is sent before the request goes on. In the Collector, `memory_limiter` guards only what comes after it.
    Next: course witness collector
    """
    gone, before = seen["gone"], seen["before_ms"]
    most = max(TIMES_AS_LONG * before, before + LONGER_MS)
    first = _first_processors(cluster)
    return several(
        (
            gone["answered"] >= ANSWERED * max(1, gone["asked"]) and gone["asked"] >= 1000,
            "a thousand questions answered",
            f"{gone['answered']} of {gone['asked']} questions answered in time",
        ),
        (
            0 < gone["ms"] <= most,
            "as fast as before",
            f"{gone['ms']} ms without a Collector, {before} ms with one",
        ),
        (seen["back"], "spans again afterwards", "no span arrived after the Collector was back"),
        (
            set(first) == {LIMITER},
            f"{LIMITER} first in the Collector",
            f"the first processor is {next((name for name in first if name != LIMITER), 'missing')}",
        ),
    )


def _first_processors(cluster: ClusterView) -> list[str]:
    """The first processor, by its kind, of each pipeline in which traces arrive; none where the file says none.

    A pipeline may have a name of its own (`traces/billed`); what a connector feeds has come past the first already.
    """
    text = assistant.data_in(cluster, assistant.COLLECTOR_CONFIG, assistant.OBSERVABILITY).get(
        assistant.COLLECTOR_FILE, ""
    )
    try:
        config = yaml.safe_load(text)
        arriving = set(config["receivers"])
        return [
            _kind((pipeline.get("processors") or ["missing"])[0])
            for name, pipeline in config["service"]["pipelines"].items()
            if _kind(name) == "traces" and arriving & set(pipeline["receivers"])
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []


def _kind(name: object) -> str:
    return str(name).partition("/")[0]


# 7. What did it cost?


def _no_prices(cluster: ClusterView) -> Verdict | None:
    if traces.PRICES_FILE in assistant.data_in(cluster, assistant.PRICES):
        return None
    where = f"ConfigMap {assistant.PRICES}"
    return not_attempted(f"{traces.PRICES_FILE} in {where}", f"{where} has none")


@lab.check("cost.equal", points=4, task="cost", timeout_s=10)
@witnessed("trace", _no_prices)
def both_counts_agree(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """For each tenant the spans count as many tokens as the gateway, and every model among them has a price.

    Why: Two counts of one thing that differ are a bug in one of them; a model without a price is used for nothing.
    Hint: Prices by `gen_ai.request.model`. Fewer tokens here than there: a sampler dropped traces. More: two spans of a trace count.
    Next: course witness trace
    """
    text = assistant.data_in(cluster, assistant.PRICES)[traces.PRICES_FILE]
    try:
        table = traces.prices(text)
    except InvalidInput as wrong:
        return falls_short(f"prices in ConfigMap {assistant.PRICES}", str(wrong))
    return several(
        *(part for tenant, cost in sorted(seen["cost"].items()) for part in _agrees(tenant, cost, table))
    )


def _agrees(
    tenant: str, cost: Mapping[str, Any], table: Mapping[str, traces.Price]
) -> list[tuple[bool, str, str]]:
    tokens = cost["input"] + cost["output"]
    free = [model or "a call without a model's name" for model in cost["models"] if model not in table]
    usd = sum(
        (cost["input"] * table[model].input + cost["output"] * table[model].output) / 1e6
        for model in cost["models"][:1]
        if model in table
    )
    return [
        (
            tokens == cost["gateway"] > 0,
            f"{tenant}: one count, {usd:.6f} USD",
            f"{tenant}: {tokens} tokens by the spans, {cost['gateway']} by the gateway",
        ),
        (not free, "every model with a price", f"{tenant}: no price for {', '.join(free)}"),
    ]
