"""Of which type a field is: what a learner wrote is held against it before any code reads it.

The API server refuses a value of the wrong type in its own words, but pictures and forecasts are
drawn while nothing is asked of it. They name what they read in a shape and call it first: a mistake becomes one sentence with the field's path, and the code behind it reads plain values. A field
that is not named is not looked at; null counts as absent, as it does for Kubernetes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from helpers.cluster.quantity import quantity
from helpers.errors import InvalidManifest

# Raises InvalidManifest where the value at the path is none of its type.
Shape = Callable[[Any, str], None]
_MOST = 40
_PORTS = 65535


def refuse(path: str, value: Any, wanted: str) -> NoReturn:
    """Raise the sentence for one field.

    Raises:
        InvalidManifest: always.
    """
    shown = "missing" if value is None else f"`{value!r:.{_MOST}}`"
    raise InvalidManifest(f"{path} is {shown}: it is {wanted}")


def text(value: Any, path: str) -> None:
    """A text; a number or a word such as `on` is one only in quotes."""
    if not isinstance(value, str):
        quoted = isinstance(value, bool | int | float)
        refuse(path, value, "a text, so write it in quotes" if quoted else "a text")


def whole(value: Any, path: str) -> None:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(path, value, "a whole number")


def amount(value: Any, path: str) -> None:
    """A quantity such as 500m, 2 or 24Gi."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            quantity(value)
        except ValueError:
            pass
        else:
            return
    refuse(path, value, "a quantity such as 500m, 2 or 24Gi")


def one_of(*words: str) -> Shape:
    """One of these words, spelled so."""

    def check(value: Any, path: str) -> None:
        if value not in words or not isinstance(value, str):
            refuse(path, value, f"one of {', '.join(words)}")

    return check


def each(shape: Shape) -> Shape:
    """A list of such values."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            refuse(path, value, "a list, each entry with a dash")
        for number, item in enumerate(value):
            if item is None:
                refuse(f"{path}[{number}]", item, "an entry with something in it")
            shape(item, f"{path}[{number}]")

    return check


def values(shape: Shape) -> Shape:
    """A mapping with free keys to such values."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            refuse(path, value, "a mapping of names to values")
        for key, item in value.items():
            shape(item, f"{path}[{key}]")

    return check


def fields(
    *, needed: Collection[str] = (), only: bool = False, then: Shape | None = None, **known: Shape
) -> Shape:
    """A mapping with these fields.

    Args:
        needed: those that must be there.
        only: there are no others: one that is misspelled is named.
        then: looked at last, with every field of its type.
        known: a shape for each field; a trailing `_` keeps a name from being one of Python's.
    """
    shapes = {name.rstrip("_"): shape for name, shape in known.items()}

    def check(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            refuse(path, value, f"a mapping with {', '.join(shapes)}")
        start = f"{path}." if path else ""
        unknown = [key for key in value if key not in shapes] if only else []
        if unknown:
            raise InvalidManifest(f"{start}{unknown[0]} is not a field here: there are {', '.join(shapes)}")
        for name, shape in shapes.items():
            if value.get(name) is not None:
                shape(value[name], f"{start}{name}")
            elif name in needed:
                refuse(f"{start}{name}", None, "needed here")
        if then:
            then(value, path)

    return check


def named(name: str, manifest: Mapping[str, Any]) -> str:
    """How a message about a manifest begins."""
    return f"{manifest.get('kind') or name} {(manifest.get('metadata') or {}).get('name') or ''}".strip()


def check(manifest: Mapping[str, Any], shape: Shape) -> None:
    """Hold one object against a shape.

    Raises:
        InvalidManifest: the object's kind and name, the field's path, what it is and what it is to be.
    """
    try:
        shape(manifest, "")
    except InvalidManifest as error:
        raise InvalidManifest(f"{named('the object', manifest)}: {error}") from error


# Shapes that several panels read


def _operator(value: Mapping[str, Any], path: str) -> None:
    with_values = value["operator"] in ("In", "NotIn")
    if with_values and not value.get("values"):
        refuse(f"{path}.values", value.get("values"), f"a list of texts, needed by {value['operator']}")
    if value.get("values") and not with_values:
        raise InvalidManifest(f"{path}.values: there are none with {value['operator']}")


REQUIREMENT = fields(
    needed=("key", "operator"),
    only=True,
    then=_operator,
    key=text,
    operator=one_of("In", "NotIn", "Exists", "DoesNotExist"),
    values=each(text),
)
SELECTOR = fields(only=True, matchLabels=values(text), matchExpressions=each(REQUIREMENT))


def _cidr(value: Any, path: str) -> None:
    text(value, path)
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise InvalidManifest(f"{path} is `{value:.{_MOST}}`: it is a network such as 10.0.0.0/8") from error
    if "/" not in value:
        refuse(path, value, "a network with its length, such as 10.0.0.7/32")


def _holes(value: Mapping[str, Any], path: str) -> None:
    block = ipaddress.ip_network(value["cidr"], strict=False)
    for number, hole in enumerate(value.get("except") or []):
        inner = ipaddress.ip_network(hole, strict=False)
        if inner.version != block.version or not inner.subnet_of(block) or inner == block:  # type: ignore[arg-type]
            refuse(f"{path}.except[{number}]", hole, f"a part of {value['cidr']}, and smaller")


def _peer(value: Mapping[str, Any], path: str) -> None:
    if all(value.get(name) is None for name in ("ipBlock", "namespaceSelector", "podSelector")):
        raise InvalidManifest(f"{path}: a peer has a podSelector, a namespaceSelector or an ipBlock")
    if value.get("ipBlock") is not None and any(
        value.get(name) is not None for name in ("namespaceSelector", "podSelector")
    ):
        raise InvalidManifest(f"{path}: an ipBlock must be alone in its peer")


def _port(value: Any, path: str) -> None:
    if isinstance(value, str) and value:
        if value.isdigit():
            refuse(path, value, "a number without quotes, or a port's name")
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _PORTS:
        refuse(path, value, f"a port from 1 to {_PORTS}, or a port's name")


def _range(value: Mapping[str, Any], path: str) -> None:
    end, start = value.get("endPort"), value.get("port")
    if end is None:
        return
    if not isinstance(start, int):
        refuse(f"{path}.port", start, "a number, because there is an endPort")
    if not start <= end <= _PORTS:
        refuse(f"{path}.endPort", end, f"a port from {start} to {_PORTS}")


PEER = fields(
    only=True,
    then=_peer,
    podSelector=SELECTOR,
    namespaceSelector=SELECTOR,
    ipBlock=fields(needed=("cidr",), only=True, then=_holes, cidr=_cidr, except_=each(_cidr)),
)
POLICY_PORT = fields(only=True, then=_range, protocol=one_of("TCP", "UDP", "SCTP"), port=_port, endPort=whole)
POLICY = fields(
    needed=("spec",),
    spec=fields(
        only=True,
        podSelector=SELECTOR,
        policyTypes=each(one_of("Ingress", "Egress")),
        ingress=each(fields(only=True, from_=each(PEER), ports=each(POLICY_PORT))),
        egress=each(fields(only=True, to=each(PEER), ports=each(POLICY_PORT))),
    ),
)
METADATA = fields(name=text, generateName=text, namespace=text, labels=values(text), annotations=values(text))
QUOTA = fields(spec=fields(hard=values(amount)))
CONFIG_MAP = fields(data=values(text))
_PROBE = fields(initialDelaySeconds=whole, periodSeconds=whole, timeoutSeconds=whole, failureThreshold=whole)
_CONTAINER = fields(
    needed=("name",),
    name=text,
    image=text,
    command=each(text),
    args=each(text),
    env=each(fields(needed=("name",), name=text, value=text)),
    startupProbe=_PROBE,
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    lifecycle=fields(preStop=fields(sleep=fields(seconds=whole), exec_=fields(command=each(text)))),
)
DEPLOYMENT = fields(
    needed=("metadata", "spec"),
    metadata=METADATA,
    spec=fields(
        needed=("template",),
        template=fields(
            needed=("spec",),
            metadata=METADATA,
            spec=fields(
                needed=("containers",),
                containers=each(_CONTAINER),
                initContainers=each(_CONTAINER),
                terminationGracePeriodSeconds=whole,
            ),
        ),
    ),
)
