"""What a learner writes in lab 03's cells, looked at before it is sent: a wrong value is named, not sent on.

Qdrant would refuse most of it too, but only after the old collection was dropped, and in the words of a parser.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from textwrap import dedent
from typing import Any

from helpers import kubeyaml
from helpers.errors import InvalidInput
from helpers.stack.embeddings import Vector
from helpers.stack.memory import Passage, as_point, corpus

DISTANCES = ("Cosine", "Euclid", "Dot", "Manhattan")
# The largest vector that Qdrant takes (https://api.qdrant.tech/api-reference/collections/create-collection).
MOST_DIMENSIONS = 65536
_COLLECTION = ("size", "distance", "index")
_POINT = ("id", "vector", "payload")
_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.\d+)?")

ToPoint = Callable[[Passage, Vector], Mapping[str, Any]]


def collection_of(wanted: object, to_point: object = as_point) -> dict[str, Any]:
    """The arguments of `Memory.recreate_collection`.

    Args:
        to_point: the learner's function: what may be indexed are a passage's fields, and those that it writes.

    Raises:
        InvalidInput: a key is missing or unknown, or values are none that Qdrant, or the corpus, takes: all of them.
    """
    values = _with_keys("collection", wanted, _COLLECTION, needed=_COLLECTION)
    size, distance, index = (values[name] for name in _COLLECTION)
    wrong = []
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MOST_DIMENSIONS:
        wrong.append(f'"size" is {_shown(size)}: it is a whole number from 1 to {MOST_DIMENSIONS:,}')
    if distance not in DISTANCES:
        wrong.append(f'"distance" is {_shown(distance)}: it is one of {", ".join(DISTANCES)}')
    fields = list(dict.fromkeys([*_payload_values(as_point), *_payload_values(to_point)]))
    if index is not None and index not in fields:
        wrong.append(
            f'"index" is {_shown(index)}: it is the name of a field of the points, one of {_listed(fields)}, or None'
        )
    if wrong:
        raise InvalidInput("; ".join(wrong))
    return values


def index_of_little_use(index: str | None, to_point: object) -> str:
    """What a keyword index on this field would not find, in a sentence; empty where it would serve a filter."""
    if index is None:
        return ""
    written = _payload_values(to_point)
    if written and index not in written:
        return f'`to_point` writes no field "{index}" so far, only {_listed(written)}: the index would stay empty'
    values = written.get(index) or _payload_values(as_point).get(index) or []
    if len(set(values)) < len(values):
        return ""
    shared = [
        name for name, found in (written or _payload_values(as_point)).items() if len(set(found)) < len(found)
    ]
    return (
        f'each passage has another "{index}", and a keyword index finds whole values: a filter by it finds one passage. '
        f"Fields in which passages agree: {_listed(shared)}"
    )


def _payload_values(to_point: object) -> dict[str, list[str]]:
    """Each field of the payload that this function writes, with the corpus's values; nothing while it makes no point."""
    found: dict[str, list[str]] = {}
    try:
        for passage in corpus():
            for name, value in (checked(to_point)(passage, [0.0]).get("payload") or {}).items():
                found.setdefault(str(name), []).append(str(value))
    except InvalidInput:
        return {}
    return found


def values_of(values: object) -> str:
    """The chart's values as text; which of them the chart takes, Helm says itself.

    Raises:
        InvalidInput: it is no YAML, or not one mapping of names to values.
    """
    text = text_of("qdrant_values", values)
    try:
        documents = kubeyaml.load_all(text)
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"`qdrant_values` is not YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise InvalidInput("`qdrant_values` is one mapping: in each line a name, a colon and a value")
    return f"{dedent(text).strip()}\n"


def checked(to_point: object) -> ToPoint:
    """The learner's function, and a sentence instead of a traceback where it does not make a point.

    Raises:
        InvalidInput: when it is called, and raises or returns something else.
    """

    def make(passage: Passage, vector: Vector) -> Mapping[str, Any]:
        if not callable(to_point):
            raise InvalidInput(f"`to_point` is {_shown(to_point)}, not a function")
        try:
            made = to_point(passage, vector)
        except Exception as error:  # the learner's own code: whatever it raises is told to them
            raise InvalidInput(f"`to_point` raised `{type(error).__name__}: {error}`") from error
        return _point(made)

    return make


def _point(made: object) -> dict[str, Any]:
    point = _with_keys("what `to_point` returns", made, _POINT, needed=("id", "vector"))
    if not _is_id(point["id"]):
        raise InvalidInput(f'"id" is {_shown(point["id"])}: Qdrant takes a UUID or a whole number')
    vector = point["vector"]
    if not isinstance(vector, list | tuple) or not all(isinstance(number, int | float) for number in vector):
        raise InvalidInput(
            f'"vector" is {_shown(vector)}: it is the list of numbers that the function is given'
        )
    payload = point.get("payload")
    if payload is not None and not isinstance(payload, Mapping):
        raise InvalidInput(f'"payload" is {_shown(payload)}: it is a dictionary of fields')
    return point


def _is_id(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return value >= 0
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return True


def text_of(name: str, value: object) -> str:
    """A text that says something, under its name in the cell.

    Raises:
        InvalidInput: it is empty or no text.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"`{name}` is {_shown(value)}: it is a text in quotes")
    return value


def layer_of(value: object) -> str | None:
    """The layer to ask within; None and an empty text ask in all of them.

    Raises:
        InvalidInput: it is neither a text nor None.
    """
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidInput(f"`layer` is {_shown(value)}: it is a layer's name in quotes, or None")


def version_of(value: object) -> tuple[int, int]:
    """Major and minor of a version such as `1.15`, `v1.15` or `1.15.3`.

    Raises:
        InvalidInput: it is no such text. A number is none either: 1.20 would be 1.2.
    """
    match = _VERSION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidInput(f'{_shown(value)} is not a version: it is a text such as "1.15" or "1.15.3"')
    return int(match[1]), int(match[2])


def _with_keys(
    name: str, value: object, known: tuple[str, ...], *, needed: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is {_shown(value)}: it is a dictionary with {_listed(known)}")
    missing = [key for key in needed if key not in value]
    unknown = [key for key in value if key not in known]
    if missing or unknown:
        said = [f"lacks {_listed(missing)}"] if missing else []
        said += [f"has {_listed(unknown)}, which is not known here"] if unknown else []
        raise InvalidInput(f"{name} {' and '.join(said)}")
    return dict(value)


def _listed(keys: Iterable[object]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def _shown(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
