"""A small model as a judge, and how far it agrees with people, before anybody lets it block a release.

The judge must answer in one word: vLLM is given a JSON schema and can say nothing else. That it always
answers well-formed JSON says nothing of its judgement; Cohen's kappa does: agreement beyond what two who
guess with the same habits would reach. 0 is chance, 1 is perfect. The interval is the usual large-sample one
(Cohen 1960; Fleiss, Cohen and Everitt 1969 for its simpler form).
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from helpers.apps.evals.outcome import ConfigurationWrong, InfrastructureFailed
from helpers.apps.evals.rows import CORPUS

VERDICTS = ("good", "bad")
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"enum": list(VERDICTS)}},
    "required": ["verdict"],
    "additionalProperties": False,
}
PROMPT = (
    "You are a strict reviewer. You get a passage, a question and an answer. The answer is good if the passage "
    "supports it and it answers the question; otherwise it is bad. Reply with JSON: "
    '{"verdict": "good"} or {"verdict": "bad"}.'
)
TIMEOUT_S = 60.0
AT_ONCE = 4
# Standard normal, two-sided 95 %.
Z = 1.959964


@dataclass(frozen=True)
class Label:
    """An answer that a person has judged."""

    id: str
    question: str
    chunk: str
    answer: str
    label: str


@dataclass(frozen=True)
class Agreement:
    """How a judge and people agree over `count` answers; `chance` is what guessing with the same habits reaches."""

    count: int
    agreed: int
    agreement: float
    chance: float
    kappa: float
    low: float
    high: float
    said_good: int

    def told(self) -> dict[str, float | int]:
        return {
            name: round(value, 3) if isinstance(value, float) else value for name, value in vars(self).items()
        }


def read_labels(text: str) -> list[Label]:
    """The labelled answers of a file, a JSON object a line.

    Raises:
        ConfigurationWrong: a line is none, or there is nothing to agree about.
    """
    labels = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            label = Label(*(str(raw[name]) for name in ("id", "question", "chunk", "answer", "label")))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationWrong(f"malformed label: line {number}: {error}") from error
        if label.label not in VERDICTS:
            raise ConfigurationWrong(f"malformed label: line {number}: label is one of {', '.join(VERDICTS)}")
        labels.append(label)
    if len({label.label for label in labels}) < 2:
        raise ConfigurationWrong("empty set: labels of both kinds are needed to measure a judge")
    return labels


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """Agreement over (person's label, judge's verdict), with kappa and its 95 % interval.

    Raises:
        ValueError: there are no pairs.
    """
    count = len(pairs)
    if not count:
        raise ValueError("no pairs")
    agreed = sum(one == other for one, other in pairs)
    observed = agreed / count
    chance = sum(
        (sum(one == verdict for one, _ in pairs) / count)
        * (sum(other == verdict for _, other in pairs) / count)
        for verdict in VERDICTS
    )
    said_good = sum(other == "good" for _, other in pairs)
    if chance >= 1:  # both always say the same: nothing was told apart
        return Agreement(count, agreed, observed, chance, 0.0, 0.0, 0.0, said_good)
    kappa = (observed - chance) / (1 - chance)
    margin = Z * math.sqrt(observed * (1 - observed) / (count * (1 - chance) ** 2))
    low, high = max(-1.0, kappa - margin), min(1.0, kappa + margin)
    return Agreement(count, agreed, observed, chance, kappa, low, high, said_good)


def measure(
    url: str, labels: Sequence[Label], *, model: str = "", on_answer: Callable[[int], None] = lambda n: None
) -> Agreement:
    """Let the model behind `url` (vLLM's, with or without /v1) judge each answer.

    Raises:
        InfrastructureFailed: it does not answer.
        ConfigurationWrong: it answers something else than a verdict.
    """
    base = url.rstrip("/").removesuffix("/v1")
    name = model or str(_call(f"{base}/v1/models")["data"][0]["id"])
    passages = {item["key"]: item for item in yaml.safe_load(CORPUS.read_text())}

    def one(label: Label) -> tuple[str, str]:
        passage = passages.get(label.chunk)
        if passage is None:
            raise ConfigurationWrong(f"malformed label: {label.id}: the corpus has no {label.chunk!r}")
        return label.label, _verdict(base, name, f"{passage['title']}. {passage['text']}", label)

    pairs = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, pair in enumerate(pool.map(one, labels), 1):
            pairs.append(pair)
            on_answer(number)
    return agreement(pairs)


def _verdict(base: str, model: str, passage: str, label: Label) -> str:
    asked = f"Passage: {passage}\n\nQuestion: {label.question}\n\nAnswer: {label.answer}"
    body = {
        "model": model,
        "temperature": 0,
        "max_tokens": 16,
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": asked}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
        },
    }
    said = _call(f"{base}/v1/chat/completions", body)["choices"][0]["message"]["content"]
    try:
        verdict = json.loads(said)["verdict"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationWrong(f"the judge answers {said!r:.80}: guided JSON is not in force") from error
    return str(verdict)


def _call(url: str, body: dict[str, Any] | None = None) -> Any:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=TIMEOUT_S)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(
            "GET" if body is None else "POST", place.path, text, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        raw = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise InfrastructureFailed(f"the judge at {url} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        kind = InfrastructureFailed if response.status >= 500 else ConfigurationWrong
        raise kind(f"the judge at {url} answers {response.status}: {raw[:200].decode('utf-8', 'replace')}")
    return json.loads(raw)
