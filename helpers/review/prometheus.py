"""What Prometheus says of itself: whom it asks, which rules it follows, which metrics it has.

It is reached by the API server's proxy, so that nothing has to be opened for a review.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.cluster.resource import Resource
    from helpers.review.stack import Stack

PORT = 9090
_LABEL = "app.kubernetes.io/name"
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][a-zA-Z0-9_:]*)(?!\s*\()(?![\w:])")
_WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "atan2",
    "inf",
    "nan",
    *("by", "without", "on", "ignoring"),
    *("group_left", "group_right"),
}


class NoPrometheus(LabError):
    """No Prometheus was found, or it does not answer."""


@dataclass(frozen=True)
class Target:
    """One address that Prometheus asks; `health` is up, down, or unknown before the first time."""

    namespace: str
    pod: str
    job: str
    health: str
    error: str = ""

    @property
    def is_down(self) -> bool:
        """Asked, and without an answer; one that was not asked yet is neither up nor down."""
        return self.health == "down"


@dataclass(frozen=True)
class Alert:
    """One alerting rule as Prometheus has loaded it."""

    name: str
    expression: str
    health: str
    error: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        return str(self.labels.get("layer") or "")


def targets(stack: Stack) -> list[Target]:
    """Everybody whom Prometheus asks.

    Raises:
        NoPrometheus: there is none that answers.
    """
    found = _asked(stack, "/api/v1/targets?state=active").get("activeTargets") or []
    return [
        Target(
            str(item["labels"].get("namespace", "")),
            str(item["labels"].get("pod", "")),
            str(item["labels"].get("job", "")),
            str(item.get("health", "")),
            str(item.get("lastError") or ""),
        )
        for item in found
    ]


def alerts(stack: Stack) -> list[Alert]:
    """Every alerting rule that Prometheus has loaded.

    Raises:
        NoPrometheus: there is none that answers.
    """
    groups = _asked(stack, "/api/v1/rules?type=alert").get("groups") or []
    return [
        Alert(
            str(item.get("name", "")),
            str(item.get("query", "")),
            str(item.get("health", "")),
            str(item.get("lastError") or ""),
            item.get("labels") or {},
            item.get("annotations") or {},
        )
        for group in groups
        for item in group.get("rules") or []
        if item.get("type", "alerting") == "alerting"
    ]


def recorded(stack: Stack) -> dict[str, str]:
    """What Prometheus records under a name of its own: the query of each, by the name.

    Raises:
        NoPrometheus: there is none that answers.
    """
    groups = _asked(stack, "/api/v1/rules?type=record").get("groups") or []
    return {
        str(item.get("name", "")): str(item.get("query", ""))
        for group in groups
        for item in group.get("rules") or []
        if item.get("type") == "recording"
    }


def written_out(expression: str, recorded: Mapping[str, str], *, depth: int = 3) -> str:
    """An expression with what its recorded names stand for, and what the names in those stand for."""
    for name in sorted(metrics_in(expression) & recorded.keys()) if depth else ():
        inner = written_out(recorded[name], recorded, depth=depth - 1)
        to = f"({inner})".replace("\\", r"\\")  # taken as it is
        expression = re.sub(rf"(?<![\w:]){re.escape(name)}(?![\w:])", to, expression)
    return expression


def metric_names(stack: Stack) -> set[str]:
    """The names of everything that Prometheus keeps.

    Raises:
        NoPrometheus: there is none that answers.
    """
    return set(_asked(stack, "/api/v1/label/__name__/values"))


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression reads; what it asks to be absent is not one of them."""
    text = re.sub(r"\babsent(?:_over_time)?\s*\((?:[^()]|\([^()]*\))*\)", " ", _TEXT.sub('""', expression))
    text = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text))
    found = {name for name in _NAME.findall(text) if name.lower() not in _WORDS}
    return {name for name in found if name != "ALERTS"}


def service(stack: Stack) -> tuple[str, str, int]:
    """(namespace, Service, port) of Prometheus.

    Raises:
        NoPrometheus: none was found.
    """
    found: tuple[str, str, int] = stack.once("prometheus", lambda: next(_services(stack), ("", "", 0)))
    if not found[1]:
        where = ", ".join(map(stack.real, stack.places.monitoring))
        raise NoPrometheus(
            f"no Service of a Prometheus in {where}",
            next_command=f"kubectl get services -n {stack.real(stack.places.monitoring[0])}",
        )
    return found


def _services(stack: Stack) -> Iterator[tuple[str, str, int]]:
    for namespace in stack.places.monitoring:
        if stack.places.prometheus:
            name, _, number = stack.places.prometheus.partition(":")
            yield namespace, name, int(number or PORT)
        # The operator's own Service comes last: whoever made another one means that.
        for item in sorted(
            stack.objects("Service", namespace), key=lambda one: one.name == "prometheus-operated"
        ):
            port = _port(item)
            if port and ("prometheus" in item.name or item.labels.get(_LABEL) == "prometheus"):
                yield namespace, item.name, port


def _port(item: Resource) -> int:
    """The port of a Service on which a Prometheus would be asked; 0 where it has none."""
    for port in item.path("spec.ports", []) or []:
        number = port.get("port")
        if number and (port.get("name") in ("web", "http-web") or number == PORT):
            return int(number)
    return 0


def _asked(stack: Stack, path: str) -> Any:
    def read() -> Any:
        namespace, name, port = service(stack)
        answer = stack.view.http(namespace, name, port, path, timeout_s=10)
        if not answer.ok:
            raise NoPrometheus(
                f"Prometheus behind Service {stack.real(namespace)}/{name} does not answer: {answer.status}",
                next_command=f"kubectl get pods -n {stack.real(namespace)}",
            )
        try:
            return answer.json()["data"]
        except (ValueError, KeyError) as error:
            raise NoPrometheus(f"Service {stack.real(namespace)}/{name} is no Prometheus: {error}") from error

    return stack.once(path, read)
