"""A row of a data set, and what is wrong with a set before anybody is asked.

    {"id": "mig-or-slices", "question": "…", "tags": ["tier=pr", "domain=substrate"],
     "expected": {"behaviour": "answer", "chunks": ["mig-slices"], "reference": "…"}}

`chunks` are keys of the corpus: relevance is known by id. A regression row has a `source`, too: where the
failure was seen, `trace:<trace id>` for one that was found in a trace.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from helpers.apps.evals.outcome import ConfigurationWrong

SETS = ("golden", "regression", "adversarial")
BEHAVIOURS = ("answer", "refuse")
ALL = "all"
CORPUS = Path(__file__).resolve().parents[2] / "stack" / "corpus.yaml"
# The id of a passage is derived from its key, as `helpers.stack.memory` does it.
ID_SPACE = uuid.UUID("6f3c2f0e-6c2b-5d6a-9a55-3f0f3a1b6c55")
FIELDS = {"id": str, "question": str, "expected": dict, "tags": list}
EXPECTED = {"behaviour": str, "chunks": list, "reference": str}
# A reference shorter than this may stand in a question by chance: "No.", "404".
LEAK_LETTERS = 12


@dataclass(frozen=True)
class Row:
    """One question, and what a right answer is known by."""

    id: str
    question: str
    behaviour: str
    chunks: tuple[str, ...]
    reference: str
    tags: tuple[str, ...]
    source: str = ""

    @property
    def refuses(self) -> bool:
        return self.behaviour == "refuse"

    def told(self) -> list[Any]:
        """What a score depends on."""
        return [self.id, self.question, self.behaviour, list(self.chunks), self.reference]


@dataclass(frozen=True)
class Flaw:
    """Something wrong with a row or a set, in one line."""

    where: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def point_id(key: str) -> str:
    """Under what id Qdrant holds a passage."""
    return str(uuid.uuid5(ID_SPACE, key))


@cache
def corpus_keys() -> frozenset[str]:
    """The keys of the corpus's passages."""
    return frozenset(item["key"] for item in yaml.safe_load(CORPUS.read_text()))


@cache
def keys_by_id() -> Mapping[str, str]:
    """Qdrant's ids back to the corpus's keys."""
    return {point_id(key): key for key in corpus_keys()}


def parse(name: str, text: str) -> tuple[list[Row], list[Flaw]]:
    """A set's rows that can be used, and what is wrong with the lines that cannot."""
    rows: list[Row] = []
    flaws: list[Flaw] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{name}.jsonl line {number}"
        try:
            raw = json.loads(line)
        except ValueError as error:
            flaws.append(Flaw(where, "malformed", f"this is not JSON: {error}"))
            continue
        found = list(_faults(name, where, raw))
        flaws += found
        if not any(flaw.kind == "malformed" for flaw in found):
            rows.append(_row(raw))
    return rows, flaws


def _faults(name: str, where: str, raw: Any) -> Iterator[Flaw]:
    """What is wrong with the shape of a row; an unknown field is named, for it is mostly a slip."""
    if not isinstance(raw, dict):
        yield Flaw(where, "malformed", "a row is a JSON object")
        return
    if isinstance(raw.get("id"), str) and raw["id"]:
        where = f"{where} ({raw['id']})"
    yield from _shape(where, raw, FIELDS, more=("source",) if name == "regression" else ())
    if not isinstance(raw.get("expected"), dict):
        return
    yield from _shape(where, raw["expected"], EXPECTED, of="expected.")
    behaviour = raw["expected"].get("behaviour")
    if isinstance(behaviour, str) and behaviour not in BEHAVIOURS:
        yield Flaw(
            where, "malformed", f"expected.behaviour is one of {', '.join(BEHAVIOURS)}, not {behaviour!r}"
        )
    for field, items in (("tags", raw.get("tags")), ("expected.chunks", raw["expected"].get("chunks"))):
        if isinstance(items, list) and not all(isinstance(item, str) and item for item in items):
            yield Flaw(where, "malformed", f"{field} is a list of texts")


def _shape(
    where: str,
    raw: Mapping[str, Any],
    fields: Mapping[str, type],
    *,
    of: str = "",
    more: tuple[str, ...] = (),
) -> Iterator[Flaw]:
    for field, kind in fields.items():
        if field not in raw:
            yield Flaw(where, "malformed", f"there is no {of}{field}")
        elif not isinstance(raw[field], kind):
            yield Flaw(where, "malformed", f"{of}{field} must be a {kind.__name__}")
        elif field in ("id", "question") and not raw[field].strip():
            yield Flaw(where, "malformed", f"{of}{field} is empty")
    for field in raw:
        if field not in fields and field not in more:
            yield Flaw(where, "unknown", f"there is no field {of}{field}")


def _row(raw: Mapping[str, Any]) -> Row:
    expected = raw["expected"]
    return Row(
        id=raw["id"],
        question=raw["question"],
        behaviour=expected["behaviour"],
        chunks=tuple(expected["chunks"]),
        reference=expected["reference"],
        tags=tuple(raw["tags"]),
        source=str(raw.get("source", "")),
    )


# Hygiene


def hygiene(sets: Mapping[str, str]) -> list[Flaw]:
    """Everything that is wrong with the sets, in their order; empty for clean ones.

    Args:
        sets: the text of each file, by the set's name.
    """
    flaws: list[Flaw] = []
    ids: dict[str, str] = {}
    questions: dict[str, str] = {}
    for name in SETS:
        rows, found = parse(name, sets.get(name, ""))
        flaws += found
        if not rows:
            flaws.append(Flaw(f"{name}.jsonl", "empty", "the set is empty"))
        for row in rows:
            where = f"{name}.jsonl ({row.id})"
            flaws += _content(where, name, row)
            if (before := ids.setdefault(row.id, name)) != name or _twice(rows, row):
                flaws.append(Flaw(where, "id", f"the id stands in {before} already"))
            same = questions.setdefault(normal(row.question), row.id)
            if same != row.id:
                flaws.append(Flaw(where, "duplicate", f"{same} asks the same"))
    return flaws


def _twice(rows: Sequence[Row], row: Row) -> bool:
    """Whether an earlier row of the same set has this id; told at the later one."""
    first = next(item for item in rows if item.id == row.id)
    return first is not row


def _content(where: str, name: str, row: Row) -> Iterator[Flaw]:
    """What is wrong with a row whose shape is right."""
    reference = normal(row.reference)
    if len(reference) >= LEAK_LETTERS and reference in normal(row.question):
        yield Flaw(where, "leak", "the question gives the reference away")
    for key in row.chunks:
        if key not in corpus_keys():
            yield Flaw(where, "chunk", f"the corpus has no passage {key!r}")
    if row.refuses and row.chunks:
        yield Flaw(where, "expected", "it expects a refusal and a passage")
    if not row.refuses and not row.chunks:
        yield Flaw(where, "expected", "it expects an answer, and no passage")
    if name == "regression" and not row.source:
        yield Flaw(where, "source", "a regression row says where the failure was seen: `source`")


def normal(text: str) -> str:
    """A text without what does not make it another one: case, spaces, punctuation, accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", plain.lower()))


# Choosing


def read_sets(folder: Path) -> dict[str, str]:
    """The texts of the sets in a folder; a file that is missing is an empty set."""
    files = {name: folder / f"{name}.jsonl" for name in SETS}
    return {name: file.read_text() for name, file in files.items() if file.is_file()}


def chosen(sets: Mapping[str, str], which: Mapping[str, str]) -> dict[str, list[Row]]:
    """The rows that a gate asks, by set.

    Args:
        which: by set, a tag that its rows must have, or `all`.

    Raises:
        ConfigurationWrong: a row is malformed, an id stands twice, or nothing is chosen.
    """
    found: dict[str, list[Row]] = {}
    for name, tag in which.items():
        rows, flaws = parse(name, sets.get(name, ""))
        if flaws:
            raise ConfigurationWrong(f"malformed row: {flaws[0]}")
        found[name] = [row for row in rows if tag == ALL or tag in row.tags]
        if not found[name]:
            raise ConfigurationWrong(f"empty set: {name}.jsonl has no row with the tag {tag!r}")
    ids = [row.id for rows in found.values() for row in rows]
    if twice := next((name for name in ids if ids.count(name) > 1), ""):
        raise ConfigurationWrong(f"malformed row: the id {twice!r} stands twice")
    return found


def fingerprint(rows: Sequence[Row]) -> str:
    """What a baseline is bound to: these questions with these expectations, in any order."""
    told = sorted((row.told() for row in rows), key=lambda item: item[0])
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
