"""What Phoenix keeps of the assistant's traces, read over REST; and what they cost by a table of prices.

    tree = traces.newest(view)[0]
    tree.root.attributes["tenant_id"], [span.name for span in tree.under(tree.root)]

Phoenix keeps attributes, parents and events as they were sent, and adds names of its own (`llm.…`). A span is
readable about 0.2 s after the Collector has sent it; a tail sampler holds a trace back for its `decision_wait`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import yaml

from helpers.errors import EnvironmentFault, InvalidInput
from helpers.stack import assistant

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

PORT = 6006
PROJECT = "llm-assistant"
PAGE = 1000
ERROR = "ERROR"
ROOT, MODEL_CALL = "chat", "generate"
INPUT, OUTPUT, MODEL, TENANT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.request.model",
    "tenant_id",
)
PRICES_FILE = "prices.yaml"


class TracesUnavailable(EnvironmentFault):
    """Phoenix does not answer."""


@dataclass(frozen=True)
class Event:
    """Something that happened while a span was open."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """One span as Phoenix keeps it; `parent_id` is empty where it has none."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: datetime
    end: datetime
    status: str = "UNSET"
    status_message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    kind: str = ""
    """OpenInference's: AGENT, RETRIEVER, LLM …; Phoenix takes it out of the attributes. UNKNOWN where none was sent."""

    @property
    def ms(self) -> float:
        return 1000 * (self.end - self.start).total_seconds()

    @property
    def failed(self) -> bool:
        return self.status == ERROR


@dataclass(frozen=True)
class Tree:
    """The spans of one trace, as far as they were kept."""

    trace_id: str
    spans: tuple[Span, ...]

    @property
    def root(self) -> Span | None:
        """The run itself: the first span whose parent is not in this trace."""
        ids = {span.span_id for span in self.spans}
        return next((span for span in self.spans if span.parent_id not in ids), None)

    def under(self, parent: Span) -> tuple[Span, ...]:
        """A span's children, in the order in which they began."""
        return tuple(span for span in self.spans if span.parent_id == parent.span_id)

    def named(self, name: str) -> Span | None:
        return next((span for span in self.spans if span.name == name), None)

    @property
    def failed(self) -> bool:
        """Whether any of its spans ended with an error."""
        return any(span.failed for span in self.spans)


def read(
    view: ClusterView,
    *,
    trace_ids: Iterable[str] = (),
    name: str = "",
    status: str = "",
    attributes: Mapping[str, str] | None = None,
    since: datetime | None = None,
    most: int = PAGE,
    project: str = PROJECT,
) -> list[Span]:
    """The newest spans first, of those that fit all that is given.

    Args:
        project: under which Phoenix keeps them: whose they are.
        attributes: values to be equal to.
        most: how many at most; a page of Phoenix's has a thousand.

    Raises:
        ObjectMissing: there is no Service phoenix.
        TracesUnavailable: Phoenix does not answer.
    """
    wanted: list[tuple[str, str]] = [("trace_id", item) for item in trace_ids]
    wanted += [("name", name)] if name else []
    wanted += [("status_code", status)] if status else []
    wanted += [("attribute", f"{key}:{json.dumps(value)}") for key, value in (attributes or {}).items()]
    wanted += [("start_time", since.isoformat())] if since else []
    found: list[Span] = []
    cursor = ""
    while len(found) < most:
        page = [*wanted, ("limit", str(min(PAGE, most - len(found))))]
        answer = _ask(view, urlencode([*page, *([("cursor", cursor)] if cursor else [])]), project)
        found += [_span(item) for item in answer.get("data") or []]
        cursor = answer.get("next_cursor") or ""
        if not cursor:
            break
    return found


def of_trace(view: ClusterView, trace_id: str) -> Tree | None:
    """All that is kept of one trace; None where nothing is.

    Raises:
        ObjectMissing, TracesUnavailable: as `read`.
    """
    found = trees(read(view, trace_ids=[trace_id]))
    return found[0] if found else None


def newest(
    view: ClusterView, most: int = 10, *, attributes: Mapping[str, str] | None = None, failed: bool = False
) -> list[Tree]:
    """The newest traces whose root has these attributes, whole.

    Raises:
        ObjectMissing, TracesUnavailable: as `read`.
    """
    roots = read(view, name=ROOT, attributes=attributes, status=ERROR if failed else "", most=most)
    ids = list(dict.fromkeys(span.trace_id for span in roots))
    whole = {tree.trace_id: tree for tree in trees(read(view, trace_ids=ids))} if ids else {}
    return [whole[name] for name in ids if name in whole]


def trees(spans: Iterable[Span]) -> list[Tree]:
    """Spans by their traces, in the order in which they began."""
    found: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda item: item.start):
        found.setdefault(span.trace_id, []).append(span)
    return [Tree(name, tuple(items)) for name, items in found.items()]


def _ask(view: ClusterView, query: str, project: str) -> Mapping[str, Any]:
    path = f"/v1/projects/{quote(project)}/spans?{query}"
    answer = view.http(assistant.OBSERVABILITY, assistant.PHOENIX, PORT, path, timeout_s=10)
    if answer.status == 404 and answer.from_service:
        return {}  # nothing was sent yet: Phoenix makes the project with its first span
    if not answer.ok:
        raise TracesUnavailable(
            f"Phoenix does not answer: {answer.status} {answer.body[:120]}",
            next_command=f"kubectl get pods -n {assistant.OBSERVABILITY}",
        )
    found: dict[str, Any] = answer.json()
    return found


def _span(item: Mapping[str, Any]) -> Span:
    return Span(
        name=str(item["name"]),
        trace_id=str(item["context"]["trace_id"]),
        span_id=str(item["context"]["span_id"]),
        parent_id=str(item.get("parent_id") or ""),
        start=datetime.fromisoformat(item["start_time"]),
        end=datetime.fromisoformat(item["end_time"]),
        status=str(item.get("status_code") or "UNSET"),
        status_message=str(item.get("status_message") or ""),
        attributes=item.get("attributes") or {},
        events=tuple(
            Event(str(event["name"]), event.get("attributes") or {}) for event in item.get("events") or []
        ),
        kind=str(item.get("span_kind") or ""),
    )


# What it cost


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float


def prices(text: str) -> dict[str, Price]:
    """A table of prices: model → `input` and `output`, in USD per million tokens.

    Raises:
        InvalidInput: it is none, in a sentence.
    """
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"the prices are no YAML: {error}") from error
    if not isinstance(said, dict) or not said:
        raise InvalidInput("the prices are a mapping: model, then `input` and `output`")
    found = {}
    for model, price in said.items():
        if not isinstance(price, dict) or set(price) != {"input", "output"}:
            raise InvalidInput(f"{model}: `input` and `output`, in USD per million tokens, and nothing else")
        wrong = [
            key
            for key, value in price.items()
            if isinstance(value, bool) or not isinstance(value, int | float)
        ]
        if wrong or min(price.values()) <= 0:
            raise InvalidInput(f"{model}: a price is a number above 0")
        found[str(model)] = Price(float(price["input"]), float(price["output"]))
    return found


@dataclass(frozen=True)
class Cost:
    """What one tenant used: answers, tokens, and USD; models without a price count no money."""

    tenant: str
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def costs(found: Iterable[Tree], table: Mapping[str, Price]) -> dict[str, Cost]:
    """What each tenant used: {tenant: cost}. The tenant stands on the root; every span that names tokens counts."""
    sums: dict[str, Cost] = {}
    for tree in found:
        root = tree.root
        tenant = str(root.attributes.get(TENANT) or "") if root else ""
        for span in tree.spans:
            if INPUT not in span.attributes:
                continue
            before = sums.get(tenant, Cost(tenant))
            model = str(span.attributes.get(MODEL) or "")
            used = int(span.attributes[INPUT]), int(span.attributes.get(OUTPUT) or 0)
            price = table.get(model)
            usd = (used[0] * price.input + used[1] * price.output) / 1e6 if price else 0.0
            missing = () if price else (model,)
            sums[tenant] = Cost(
                tenant,
                before.answers + 1,
                before.input_tokens + used[0],
                before.output_tokens + used[1],
                before.usd + usd,
                tuple(dict.fromkeys(before.unpriced + missing)),
            )
    return sums
