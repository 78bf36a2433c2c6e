"""What lab 07 shows of the stored traces: one question's tree, what each tenant cost, and traces that look wrong."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers import kubeyaml
from helpers.apps.evals import rows
from helpers.errors import InvalidInput, LabError, StepMissing
from helpers.labs.lab07_gates import draw_pictures, ground, regression
from helpers.notebook.html import card, code, course, cut, inline, note, spinner, table, with_outcome, word
from helpers.notebook.reset import reset_button
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack import assistant, evals, gateway, memory, traces

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.stack.traces import Tree

QUESTION = "Does an idle pod still use up the GPU quota?"
ASK_PATH = "/assistant/v1/chat"
TENANT = "docs"
# A sampler decides seconds after a trace has ended, and batches are sent some seconds later.
STORED_S = 20.0
OLD_PODS_S = 90.0
_COUNTED, _SHOWN = 100, 12
# Whose questions are the course's own: no user's answer goes wrong in them.
_OURS = ("witness", "eval")
# Whose day it is that the witness `users` makes.
_USERS = "users"


# One tree


@needs_cluster
def tree_panel(lab: LabSession, button: Any) -> Any:
    """Ask a question through the gateway, and show its tree as the store has it."""
    assert lab.cluster is not None
    if not lab.asked(button, by_hand=True):
        said = f"It asks through the gateway: {QUESTION} The whole store: `course open phoenix`"
        return with_outcome(button, note(said))
    with spinner("Asking", "waiting until no pod with other settings answers any more") as say:
        ground.wait_for_assistant(lab.cluster, OLD_PODS_S)
        say(QUESTION)
        trace_id, status = _ask(lab.cluster)
        say("waiting until the store has its trace")
        tree = _stored(lab.cluster.view(), trace_id)
    if tree is None:
        return with_outcome(button, _not_stored(status))
    return with_outcome(button, tree_picture(tree))


def _ask(cluster: Cluster) -> tuple[str, int]:
    """A question with a trace of the page's own; its id, and the answer's status."""
    view, trace_id = cluster.view(), secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    answer = gateway.request(
        view, "POST", ASK_PATH, gateway.keys(view)[TENANT], body={"question": QUESTION}, headers=headers
    )
    return trace_id, answer.status


def _stored(view: ClusterView, trace_id: str) -> Tree | None:
    until = time.monotonic() + STORED_S
    while True:
        tree = traces.of_trace(view, trace_id)
        if tree is not None or time.monotonic() > until:
            return tree
        time.sleep(0.5)


def _not_stored(status: int) -> mo.Html:
    why = (
        "The service may not go on with the caller's trace (`OTEL_PROPAGATORS`), its sampler may have dropped it, "
        "or the Collector did."
    )
    said = f"The answer was {status}, and the store has no trace of it after {STORED_S:.0f} s. {why}"
    return course(Markup("{} {}").format(word("open", "not stored"), inline(said)), live=True)


def tree_picture(tree: Tree) -> Any:
    """A trace as a picture, and what stands on each span."""
    bars = [
        draw_pictures.Bar(
            span.span_id,
            span.parent_id,
            span.name,
            1000 * span.start.timestamp(),
            1000 * span.end.timestamp(),
            # A call over HTTP says nothing of its kind.
            span.kind if span.kind in draw_pictures.KINDS else "TOOL",
            span.failed,
            span.attributes,
        )
        for span in tree.spans
    ]
    order = [bar for _, bar in draw_pictures.in_tree_order(bars)]
    lines = [
        (code(bar.name), Markup("<br>").join(_said(bar.attributes)) or Markup("<small>nothing</small>"))
        for bar in order
    ]
    attributes = table(("span", "attributes"), lines)
    folded = Markup("<details><summary>What stands on each span of {}</summary>{}</details>").format(
        code(tree.trace_id), attributes
    )
    return mo.vstack([draw_pictures.span_chart(bars), card(folded, live=True)], gap=0.3)


def _said(attributes: Mapping[str, Any]) -> Iterator[Markup]:
    """The attributes of the service's own; what Phoenix adds (`llm.…`) is left out."""
    for name, value in sorted(attributes.items()):
        if not name.startswith(("llm.", "openinference.")):
            text = value if isinstance(value, str) else json.dumps(value)
            yield Markup("{} <small>{}</small>").format(code(name), cut(text, 80))


# What it cost


@needs_cluster
def cost_picture(lab: LabSession) -> Any:
    """What each tenant's stored traces cost by the table of prices; a model without a price stands out."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    text = assistant.data_in(view, assistant.PRICES).get(traces.PRICES_FILE)
    if not text:
        return note("The bill appears when there are prices.")
    found = traces.costs(traces.newest(view, _COUNTED), traces.prices(text))
    if not found:
        return note("The store has no model's call with token counts yet: ask a question.")
    lines = [
        (
            code(cost.tenant) if cost.tenant else word("FAIL", "nobody"),
            str(cost.answers),
            f"{cost.input_tokens:,}",
            f"{cost.output_tokens:,}",
            f"{cost.usd:.6f}",
            code(*cost.unpriced) if cost.unpriced else "",
        )
        for cost in sorted(found.values(), key=lambda item: -item.usd)
    ]
    head = ("tenant", "answers", "tokens in", "tokens out", "USD", "without a price")
    told = Markup("<small>Of the newest {} stored traces.</small>").format(_COUNTED)
    return card(told + table(head, lines), live=True)


# From a trace to a row


def captured(tree: Tree) -> Mapping[str, Any]:
    """What an event of the trace says of the question, wherever it stands; empty where none does."""
    for span in tree.spans:
        for event in span.events:
            if isinstance(event.attributes.get("question"), str):
                return event.attributes
    return {}


def found_passages(tree: Tree) -> list[str]:
    """Keys of the passages whose ids stand in any of the trace's attributes."""
    known = rows.keys_by_id()
    values = (value for span in tree.spans for value in span.attributes.values())
    ids = (item for value in values for item in (value if isinstance(value, list) else _ids(value)))
    return list(dict.fromkeys(known[str(item)] for item in ids if str(item) in known))


def _ids(value: object) -> list[str]:
    """A list that the store keeps as text."""
    if not isinstance(value, str) or not value.startswith("["):
        return []
    try:
        found = json.loads(value)
    except ValueError:
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


@needs_cluster
def suspects_table(lab: LabSession) -> Any:
    """The newest traces: what was asked, which passages were found, and what was answered."""
    assert lab.cluster is not None
    found = [tree for tree in _newest(lab.cluster.view()) if _tenant(tree) not in _OURS][:_SHOWN]
    if not found:
        return note("The store has no trace of a user's question yet.")
    lines = []
    for tree in found:
        said, root = captured(tree), tree.root
        lines.append(
            (
                cut(str(said["question"]), 70) if said else Markup("<small>not captured</small>"),
                code(*found_passages(tree)) if found_passages(tree) else "",
                cut(str(said.get("answer", "")), 90),
                str(root.attributes.get("version", "")) if root else "",
                Markup("<small>{}</small>").format(code(tree.trace_id)),
            )
        )
    head = Markup("<small>The newest {} stored traces of users. In the store itself: {}</small>").format(
        len(lines), code("course open phoenix")
    )
    return card(head + table(("asked", "passages", "answered", "release", "trace"), lines), live=True)


def _newest(view: ClusterView) -> list[Tree]:
    """The newest traces, the users' own before all others: a witness's thousand questions push them far down."""
    own = traces.newest(view, _COUNTED, attributes={traces.TENANT: _USERS})
    return list({tree.trace_id: tree for tree in (*own, *traces.newest(view, _COUNTED))}.values())


def _tenant(tree: Tree) -> str:
    return str(tree.root.attributes.get(traces.TENANT, "")) if tree.root else ""


def row_of(view: ClusterView, text: object) -> dict[str, Any]:
    """A learner's row, with `$TRACE` as the newest stored trace of its question.

    Raises:
        InvalidInput: it is no row.
        StepMissing: no stored trace has that question.
    """
    try:
        documents = kubeyaml.load_all(text) if isinstance(text, str) else []
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"this is not YAML: {error}") from error
    row = documents[0] if len(documents) == 1 else None
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise InvalidInput("a row is one mapping with `id`, `question`, `expected`, `tags` and `source`")
    source = str(row.get("source") or "")
    if "$TRACE" in source:
        row["source"] = Template(source).safe_substitute(TRACE=_trace_of(view, row["question"]))
    return row


def _trace_of(view: ClusterView, question: str) -> str:
    wanted = rows.normal(question)
    for tree in _newest(view):
        said = captured(tree)
        if wanted and said and rows.normal(str(said["question"])) == wanted:
            return tree.trace_id
    raise StepMissing(f"No stored trace has the question {question!r}: copy it from the table above.")


@needs_cluster
def row_preview(lab: LabSession, text: str) -> mo.Html:
    """The row as it would be added, what is wrong with it, and the passages that there are."""
    assert lab.cluster is not None
    row = row_of(lab.cluster.view(), text)
    line = json.dumps(row, ensure_ascii=False)
    sets = {**evals.sets_in(lab.cluster.view()), "regression": line}
    flaws = [flaw for flaw in rows.hygiene(sets) if flaw.where.startswith("regression")]
    told = Markup("").join(
        Markup("<div>{} {}</div>").format(word("FAIL", flaw.kind), inline(flaw.what)) for flaw in flaws
    ) or Markup("<div>{}</div>").format(word("PASS", "a clean row"))
    keys = table(("key", "passage"), [(code(item.key), item.title) for item in memory.corpus()])
    passages = Markup("<details><summary>The corpus's passages</summary>{}</details>").format(keys)
    return card(Markup("<pre>{}</pre>").format(cut(line, 600)) + told + passages, live=True)


@needs_cluster
def row_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that adds the row to the regression set, and the way back."""
    assert lab.cluster is not None
    cluster = lab.cluster

    def back() -> str:
        kept = [line for line in _lines(cluster) if not _from_a_trace(line)]
        assistant.put_data(
            cluster, assistant.SETS, {"regression.jsonl": "".join(f"{line}\n" for line in kept)}
        )
        return "The rows that came from traces are gone."

    undo = reset_button(lab, back, tooltip="Takes the rows out that came from traces.")
    row = mo.hstack([button, undo], justify="start")
    if lab.asked(button):
        with spinner("Adding the row"):
            regression.add_row(cluster, _row_in_time(lab, text))
    own = [json.loads(line) for line in _lines(cluster) if _from_a_trace(line)]
    if not own:
        return with_outcome(row, note("No row of the regression set comes from a trace yet.", live=True))
    lines = [(code(item["id"]), item["question"], code(str(item["source"]))) for item in own]
    return with_outcome(row, card(table(("row", "question", "source"), lines), live=True))


def _row_in_time(lab: LabSession, text: str) -> dict[str, Any]:
    """The row; where a solution runs, as soon as the store has its trace."""
    assert lab.cluster is not None
    until = time.monotonic() + (STORED_S if lab.pressed else 0)
    while True:
        try:
            return row_of(lab.cluster.view(), text)
        except LabError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


def _lines(cluster: Cluster) -> Sequence[str]:
    text = evals.sets_in(cluster.view()).get("regression", "")
    return [line for line in text.splitlines() if line.strip()]


def _from_a_trace(line: str) -> bool:
    try:
        return str(json.loads(line).get("source") or "").startswith("trace:")
    except (ValueError, AttributeError):
        return False
