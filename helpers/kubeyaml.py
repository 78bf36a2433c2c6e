"""YAML as Kubernetes reads it, for every text that goes to a cluster or describes one.

kubectl and the API server read YAML through sigs.k8s.io/yaml: go-yaml version 2, then JSON. That is
not YAML as PyYAML reads it: dates and `12:30:45` stay text, `1e1`, `08` and `0o755` are numbers, keys
are made text, and a number without a fraction is whole. `tests/unit/kubeyaml_table.json` holds what
the real kubectl made of odd values; the rules are those of resolve.go:
https://github.com/yaml/go-yaml/blob/v2/resolve.go and https://github.com/kubernetes-sigs/yaml
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Any

import yaml

# Everything below rests on libyaml's scanner, of which go-yaml's is a translation.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BEYOND_JSON = frozenset(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")) | {
    ".nan",
    ".NaN",
    ".NAN",
}
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)")
_MOST_INT, _LEAST_INT = 2**64 - 1, -(2**63)
# From here on a number is no int64, which is what the API server's whole numbers are.
_WHOLE_BELOW = 2**63
# A key has its exponent from here on, as %g does.
_EXPONENT_FROM = 6
# An alias may repeat what it names, and such repetitions may be nested: a few lines can mean millions.
_MOST_NODES = 400_000
_DEEPEST = 100


class NotYaml(ValueError):
    """The text is not YAML, or none that Kubernetes takes; the message is one line."""


def load_all(text: str) -> list[Any]:
    """Every document of a text that is not empty.

    Raises:
        NotYaml: with the line and column where one is known.
    """
    try:
        _refuse_depth(text)
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise NotYaml(f"{where}{error.problem or error}") from error
    except yaml.YAMLError as error:
        raise NotYaml(" ".join(str(error).split())) from error
    return [_plain(document) for document in documents if document is not None]


def _refuse_depth(text: str) -> None:
    """Refuse what is nested deeper than any manifest: libyaml's composer recurses in C, and would crash."""
    if sum(text.count(sign) for sign in "[{-?:") <= _DEEPEST:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                where = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
                raise NotYaml(f"{where}it is nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def load(text: str) -> Any:
    """The only document of a text; None when it is empty.

    Raises:
        NotYaml: it is not YAML, or there is more than one document.
    """
    documents = load_all(text)
    if len(documents) > 1:
        raise NotYaml(f"one document was expected, not {len(documents)}")
    return documents[0] if documents else None


def dump(tree: Any) -> str:
    """A document as text that `load` and kubectl read back as it was: what would be taken for a number is quoted."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _kind_of(text: str) -> str:
    """What go-yaml takes a plain scalar for: the end of its tag."""
    if text in _TRUE or text in _FALSE:
        return "bool"
    if text in _NULL:
        return "null"
    if text == "<<":
        return "merge"
    if text in _BEYOND_JSON:
        return "float"
    if text[0] in "+-.0123456789":
        number = _number(text.replace("_", ""))
        return "str" if number is None else "int" if isinstance(number, int) else "float"
    return "str"


def _number(text: str) -> int | float | None:
    if _INT.fullmatch(text):
        sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.removeprefix("+"))
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        whole = sign * int(digits, 8 if octal else 0)
        if _LEAST_INT <= whole <= _MOST_INT:
            return whole
    if not _FLOAT.fullmatch(text):
        return None
    number = float(text)
    return None if math.isinf(number) else number


class _Resolver:
    """go-yaml's reading of a scalar without quotes, in the place of PyYAML's."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _TAG + (_kind_of(value) if implicit[0] else "str")
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


class _Loader(_Resolver, _Base):
    """PyYAML's loader with go-yaml's scalars, and JSON's keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        # Mappings are always whole: a key is made text here, and a later value of the same key wins.
        self.flatten_mapping(node)
        return {self._key(key): self.construct_object(value, deep=True) for key, value in node.value}

    def _key(self, node: Any) -> str:
        """A key as sigs.k8s.io/yaml writes it in JSON."""
        if node.tag == f"{_TAG}float" and node.value in _BEYOND_JSON:
            return node.value.lower().removeprefix("+")
        written = self.construct_object(node, deep=True)
        if isinstance(written, str):
            return written
        if isinstance(written, bool):
            return "true" if written else "false"
        if isinstance(written, int) and node.tag == f"{_TAG}int":
            return str(written)
        if isinstance(written, int | float):
            return _short(written)
        raise yaml.constructor.ConstructorError(
            None, None, "a key is text, a number or true and false", node.start_mark
        )

    def _by_shape(self, node: Any) -> Any:
        """What carries a tag that means nothing to Kubernetes, or one of another shape."""
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return self.construct_scalar(node)

    def _scalar(self, node: Any) -> Any:
        text = self.construct_scalar(node)
        kind = _kind_of(text)
        wanted = node.tag.removeprefix(_TAG)
        if kind == "bool" and wanted == "bool":
            return text in _TRUE
        if kind == "null" and wanted == "null":
            return None
        if (
            wanted in ("int", "float")
            and kind in ("int", "float")
            and not (wanted == "int" and kind == "float")
        ):
            return self._numeral(text, node)
        raise yaml.constructor.ConstructorError(
            None, None, f"cannot decode `{text}` as a `!!{wanted}`", node.start_mark
        )

    def _numeral(self, text: str, node: Any) -> int | float:
        number = None if text in _BEYOND_JSON else _number(text.replace("_", ""))
        if number is None:
            raise yaml.constructor.ConstructorError(
                None, None, f"`{text}` is not a number that JSON can hold", node.start_mark
            )
        if isinstance(number, int):
            return number if number < _WHOLE_BELOW else float(number)
        return int(number) if number.is_integer() and abs(number) < _WHOLE_BELOW else number

    def _binary(self, node: Any) -> str:
        try:
            return base64.b64decode(self.construct_scalar(node), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, "!!binary value contains invalid base64 data", node.start_mark
            ) from error


def _short(number: float) -> str:
    """The shortest text that names the number in 32 bits, in Go's spelling: how a float becomes a key."""
    try:
        (narrow,) = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        return ".inf" if number > 0 else "-.inf"
    for digits in range(1, 10):
        text = f"{number:.{digits}e}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == narrow:
            break
    mantissa, _, exponent = text.partition("e")
    if -4 <= int(exponent) < _EXPONENT_FROM:
        return f"{float(text):.9f}".rstrip("0").rstrip(".")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


_Loader.yaml_constructors = {
    None: _Loader._by_shape,
    f"{_TAG}binary": _Loader._binary,
    **{f"{_TAG}{kind}": _Loader._scalar for kind in ("bool", "null", "int", "float")},
}
_Loader.yaml_multi_constructors = {}


class _Dumper(_Resolver, _BaseDumper):
    """Quotes what go-yaml would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _plain(document: Any) -> Any:
    """The document as a tree of its own: aliases copied; one that holds itself, or means too much, refused."""
    left = _MOST_NODES

    def copied(node: Any, above: tuple[int, ...]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise NotYaml("it is too large: aliases repeat too much")
        if not isinstance(node, dict | list):
            return node
        if id(node) in above:
            raise NotYaml("an anchor holds an alias to itself")
        path = (*above, id(node))
        if isinstance(node, dict):
            return {key: copied(value, path) for key, value in node.items()}
        return [copied(value, path) for value in node]

    return copied(document, ())
