"""Wrong clusters for parts 5 to 7: what stands on the wrong span, what a Collector drops or lets through, what is not priced.

A record is written as the witness's pod leaves it, by the Job of the present state.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import yaml

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, applied, edited, manifest, steps
from helpers.grading.verdict import Status
from helpers.labs.lab07_gates import proof_state, witness_traces
from helpers.labs.witnessed_fakes import forged, leave
from helpers.stack import assistant, traces

APPS, OBSERVABILITY = assistant.NAMESPACE, assistant.OBSERVABILITY
NOT_YET = Status.NOT_ATTEMPTED
Seen = dict[str, Any]

# What each witness sees where everything is right.
SEEN: dict[str, Seen] = {
    "trace": {
        "asked": 4,
        "kept": 4,
        "continued": 4,
        "tree": 4,
        "root": 4,
        "repeated": [],
        "tokens": 4,
        "named": 4,
        "elsewhere": [],
        "ids": 4,
        "texts": 0,
        "cost": {
            "docs": {"input": 985, "output": 32, "models": ["$MODEL"], "gateway": 1017},
            "research": {"input": 938, "output": 28, "models": ["$MODEL"], "gateway": 966},
        },
    },
    "collector": {
        "statuses": {"200": 180, "503": 20},
        "told": True,
        "failed": 20,
        "errors": 20,
        "whole": 20,
        "good": 21,
        "leaks": {"attributes": 0, "events": 0},
        "captured": 31,
        "before_ms": 138,
        "gone": {"asked": 1000, "answered": 1000, "ms": 154},
        "back": True,
    },
}


def records(cluster: Any) -> None:
    """Both witnesses have looked at the present state."""
    for name in witness_traces.WITNESSES:
        witnessed(name)(cluster)


def witnessed(name: str, edit: Callable[[Seen], object] = lambda seen: None, **other: Any) -> Change:
    """A witness's Job and its pod, ended with a record of the present state; `other` stands in the record too."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        for cost in seen.get("cost", {}).values():
            cost["models"] = [str(cluster.profile().served_model_name)]
        edit(seen)
        leave(cluster, witness_traces.BOOK, name, {"seen": seen, **other})

    return change


def _saw(name: str, **changes: Any) -> Change:
    """Some figures of a record are others: `_saw("trace", kept=0)`; a mapping changes part of one."""

    def edit(seen: Seen) -> None:
        for key, value in changes.items():
            if isinstance(value, dict):
                seen[key].update(value)
            else:
                seen[key] = value

    return witnessed(name, edit)


def _cost(tenant: str, **changes: Any) -> Change:
    return witnessed("trace", lambda seen: seen["cost"][tenant].update(changes))


def _settings(**changed: str) -> Change:
    return proof_state.settings(changed)


def _collector(edit: Callable[[Any], object]) -> Change:
    """Another configuration of the Collector, and the record of one that saw it."""

    def change(cluster: Any) -> None:
        text = assistant.data_in(cluster.view(), assistant.COLLECTOR_CONFIG, OBSERVABILITY)[
            assistant.COLLECTOR_FILE
        ]
        config = yaml.safe_load(text)
        edit(config)
        proof_state.collector_config(yaml.safe_dump(config, sort_keys=False))(cluster)

    return change


def _pipeline(*names: str) -> Change:
    return _collector(lambda config: config["service"]["pipelines"]["traces"].update(processors=list(names)))


def _prices(text: str | None) -> Change:
    data = {} if text is None else {traces.PRICES_FILE: text}
    return applied(manifest("ConfigMap", assistant.PRICES, APPS, data=data))


def _trace_file(text: str) -> Change:
    def edit(found: Manifest) -> None:
        found["data"][witness_traces.TRACE_FILE] = text

    return edited("ConfigMap", assistant.DECISIONS, edit, APPS)


def _by_hand(name: str, edit: Callable[[Manifest], object]) -> Change:
    """A Job that the learner changed, with a record that says that all is well."""
    return lambda cluster: leave(cluster, witness_traces.BOOK, name, {"seen": SEEN[name]}, job=edit)


def _other_program(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "echo all is well"]


def _other_decisions(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "decisions-of-somebody-else"


def _everything_everywhere(seen: Seen) -> None:
    """Five spans of each trace say all that is known."""
    seen.update(
        repeated=["feature", "session_id", "tenant_id", "version"],
        elsewhere=["gen_ai.usage.input_tokens on chat"],
        texts=20,
    )
    for cost in seen["cost"].values():
        cost.update(input=5 * cost["input"], output=5 * cost["output"])


def _nameless(seen: Seen) -> None:
    seen["named"] = 0
    for cost in seen["cost"].values():
        cost["models"] = [""]


def _nothing_kept(seen: Seen) -> None:
    seen.update(dict.fromkeys(("kept", "continued", "tree", "root", "tokens", "named", "ids"), 0))
    for cost in seen["cost"].values():
        cost.update(input=0, output=0, models=[])


TRACE = ("trace.tree", "trace.tokens", "trace.context")
COLLECTOR = ("collector.errors", "collector.redacted", "collector.gone")

MUTANTS = [
    # 5
    Mutant(
        "head sampling as the start has it",
        steps(
            _settings(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.1"),
            witnessed("trace", _nothing_kept),
            _saw("collector", errors=2, whole=2, good=3),
        ),
        {
            "trace.tree": "0 of 4 questions in Phoenix",
            "trace.tokens": "0 of 4 calls with the answer's own counts",
            "trace.context": "0 of 4 questions in their caller's trace",
            "collector.errors": "2 of 20 errors kept whole",
            "cost.equal": "docs: 0 tokens by the spans, 1017 by the gateway",
        },
    ),
    Mutant(
        "everything on every span",
        witnessed("trace", _everything_everywhere),
        {
            "trace.tree": "tenant_id, version on other spans too",
            "trace.tokens": "gen_ai.usage.input_tokens on chat",
            "cost.equal": "docs: 5085 tokens by the spans, 1017 by the gateway",
        },
    ),
    Mutant(
        "the tenant on the model's call",
        _saw("trace", root=0, repeated=["tenant_id"]),
        {"trace.tree": "0 of 4 roots with the right tenant_id"},
    ),
    Mutant(
        "a flat trace",
        _saw("trace", tree=0),
        {"trace.tree": "0 of 4 with all four steps"},
    ),
    Mutant(
        "the passages' texts instead of their ids",
        _saw("trace", ids=0),
        {"trace.tree": "0 of 4 retrievals name them"},
    ),
    Mutant(
        "the question as an attribute of the root",
        _saw("trace", texts=4),
        {"trace.tree": "4 spans with the question's words in an attribute"},
    ),
    Mutant(
        "counts on the root alone",
        _saw("trace", tokens=0, named=0, elsewhere=["gen_ai.usage.input_tokens on chat"]),
        {"trace.tokens": "0 of 4 calls with the answer's own counts"},
    ),
    Mutant(
        "a total beside the two",
        _saw("trace", elsewhere=["gen_ai.usage.total_tokens"]),
        {"trace.tokens": "gen_ai.usage.total_tokens"},
    ),
    Mutant(
        "a call that does not say which model",
        witnessed("trace", _nameless),
        {
            "trace.tokens": "0 of 4 calls with model, provider and reason",
            "cost.equal": "no price for a call without a model's name",
        },
    ),
    Mutant(
        "no propagator",
        steps(_settings(OTEL_PROPAGATORS="none"), _saw("trace", continued=0), witnessed("collector")),
        {"trace.context": "0 of 4 questions in their caller's trace"},
    ),
    Mutant(
        "a propagator that only some pods have",
        _saw("trace", continued=3),
        {"trace.context": "3 of 4 questions in their caller's trace"},
    ),
    Mutant(
        "another trace.py than the witness saw",
        _trace_file("# changed\n"),
        dict.fromkeys((*TRACE, *COLLECTOR, "cost.equal"), "changed since it was seen"),
        NOT_YET,
    ),
    Mutant(
        "a Job of the learner's own",
        _by_hand("trace", _other_program),
        dict.fromkeys((*TRACE, "cost.equal"), "command of witness is not the course's own"),
    ),
    Mutant(
        "a record of another pod's",
        forged(witness_traces.BOOK, "trace"),
        dict.fromkeys((*TRACE, "cost.equal"), "the record is another pod's"),
    ),
    # 6
    Mutant(
        "a tail sampler without a policy for errors",
        _saw("collector", errors=2, whole=2, good=18),
        {"collector.errors": "2 of 20 errors kept whole"},
    ),
    Mutant(
        "errors without their roots",
        _saw("collector", whole=11),
        {"collector.errors": "11 of 20 errors kept whole"},
    ),
    Mutant(
        "a Collector that keeps everything",
        _saw("collector", good=180),
        {"collector.errors": "180 of 180 good ones kept"},
    ),
    Mutant(
        "a Collector that keeps nothing but errors",
        _saw("collector", good=0, captured=10),
        {"collector.errors": "0 of 180 good ones kept"},
    ),
    Mutant(
        "no redaction",
        steps(
            _pipeline("memory_limiter", "tail_sampling", "batch"),
            witnessed("trace"),
            _saw("collector", leaks={"attributes": 0, "events": 41}),
        ),
        {"collector.redacted": "41 events with an address or a card number"},
    ),
    Mutant(
        "texts masked and lists not",
        _saw("collector", leaks={"events": 20}),
        {"collector.redacted": "20 events with an address or a card number"},
    ),
    Mutant(
        "events masked by hand, and the prompt in an attribute",
        _saw("collector", leaks={"attributes": 33}),
        {"collector.redacted": "33 spans with an address or a card number in attributes"},
    ),
    Mutant(
        "nothing captured, so that nothing can leak",
        _saw("collector", captured=0),
        {"collector.redacted": "0 events with what was said"},
    ),
    Mutant(
        "each span sent before the request goes on",
        steps(
            _settings(OTEL_SPAN_PROCESSOR="simple"),
            witnessed("trace"),
            _saw("collector", gone={"asked": 36, "answered": 1, "ms": 48911}),
        ),
        {"collector.gone": "1 of 36 questions answered in time"},
    ),
    Mutant(
        "answers that wait for a batch",
        _saw("collector", gone={"ms": 2400}),
        {"collector.gone": "2400 ms without a Collector, 138 ms with one"},
    ),
    Mutant(
        "an exporter that gives up for ever",
        _saw("collector", back=False),
        {"collector.gone": "no span arrived after the Collector was back"},
    ),
    Mutant(
        "a limiter behind the sampler",
        steps(_pipeline("tail_sampling", "memory_limiter", "redaction", "batch"), records),
        {"collector.gone": "the first processor is tail_sampling"},
    ),
    Mutant(
        "another Collector than the witness saw",
        _pipeline("memory_limiter", "tail_sampling", "redaction"),
        dict.fromkeys((*TRACE, *COLLECTOR, "cost.equal"), "changed since it was seen"),
        NOT_YET,
    ),
    Mutant(
        "a copy with decisions of another's",
        _by_hand("collector", _other_decisions),
        dict.fromkeys(COLLECTOR, "a volume is not the course's own"),
    ),
    Mutant(
        "a copy that does not start",
        witnessed("collector", error="the copy does not answer: 0"),
        dict.fromkeys(COLLECTOR, "the copy does not answer"),
    ),
    # 7
    Mutant(
        "a tenth of the traces",
        _cost("docs", input=480, output=16),
        {"cost.equal": "docs: 496 tokens by the spans, 1017 by the gateway"},
    ),
    Mutant(
        "prices of another model",
        _prices("another-model: {input: 0.05, output: 0.20}\n"),
        {"cost.equal": "no price for"},
    ),
    Mutant(
        "one price for both directions",
        _prices("some-model: 0.1\n"),
        {"cost.equal": "`input` and `output`, in USD per million tokens"},
    ),
    Mutant(
        "a model that costs nothing",
        _prices("some-model: {input: 0, output: 0.2}\n"),
        {"cost.equal": "a price is a number above 0"},
    ),
    Mutant("no prices", _prices(None), {"cost.equal": "has none"}, NOT_YET),
]
