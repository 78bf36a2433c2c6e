"""gate.yaml: which rows are asked, and which bounds their scores must keep.

rows: {golden: tier=pr, adversarial: all, regression: all}
metrics:
  retrieval_hit: {floor: 0.90, max_drop: 0.05}     # both must hold
  tokens_ratio: {ceiling: 1.5}                     # against the stable release's answers
every: [answered, retrieval_hit]                   # of each regression row, without averaging
judge: {blocks: false, why: kappa 0.04, no better than chance}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from helpers.apps.evals.measures import METRICS, RATIO, ROW_METRICS
from helpers.apps.evals.outcome import ConfigurationWrong
from helpers.apps.evals.rows import SETS

FILE = "gate.yaml"
EVERY = ("answered", "retrieval_hit")
# What is averaged; each row of the third set must hold by itself.
AVERAGED = ("golden", "adversarial")
_KEYS = ("rows", "metrics", "every", "judge")


@dataclass(frozen=True)
class Bound:
    """What the mean of a metric must keep: a floor and the largest drop below the baseline, or a ceiling."""

    floor: float | None = None
    max_drop: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Gate:
    """A gate as it is written.

    Args:
        rows: by set, the tag that its rows must have, or `all`.
    """

    rows: Mapping[str, str]
    bounds: Mapping[str, Bound]
    every: Sequence[str] = EVERY
    judge: Mapping[str, Any] = field(default_factory=dict)


def read(text: str) -> Gate:
    """The gate that this text says.

    Raises:
        ConfigurationWrong: it says none, or one that could never fail.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationWrong(f"{FILE} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(raw, dict):
        raise ConfigurationWrong(f"{FILE} is a mapping with {', '.join(_KEYS)}")
    if unknown := [key for key in raw if key not in _KEYS]:
        raise ConfigurationWrong(f"{FILE}: there is no {unknown[0]!r}; it has {', '.join(_KEYS)}")
    metrics = _mapping(raw, "metrics")
    return Gate(_rows(_mapping(raw, "rows")), _bounds(metrics), _every(raw.get("every")), _judge(raw))


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    if not isinstance(found, dict) or not found:
        raise ConfigurationWrong(f"{FILE}: {name} is a mapping with at least one entry")
    return found


def _rows(raw: Mapping[str, Any]) -> dict[str, str]:
    for name, tag in raw.items():
        if name not in SETS:
            raise ConfigurationWrong(f"{FILE}: there is no set {name!r}; there are {', '.join(SETS)}")
        if not isinstance(tag, str) or not tag:
            raise ConfigurationWrong(f"{FILE}: rows.{name} is a tag, or `all`")
    if not any(name in AVERAGED for name in raw):
        raise ConfigurationWrong(f"empty set: {FILE} chooses no row of {' or '.join(AVERAGED)}")
    return {name: raw[name] for name in SETS if name in raw}


def _bounds(raw: Mapping[str, Any]) -> dict[str, Bound]:
    found = {}
    for name, bound in raw.items():
        if name not in METRICS:
            raise ConfigurationWrong(f"unknown metric: {name!r} is none of {', '.join(METRICS)}")
        found[name] = _bound(name, bound)
    return found


def _bound(name: str, raw: Any) -> Bound:
    wanted = ({"ceiling"},) if name == RATIO else ({"floor", "max_drop"}, {"ceiling"})
    if not isinstance(raw, dict) or set(raw) not in wanted:
        words = " or ".join(" and ".join(sorted(keys)) for keys in wanted)
        raise ConfigurationWrong(f"{FILE}: {name} has {words}, and nothing else")
    for key, value in raw.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationWrong(f"{FILE}: {name}.{key} is a number, not {value!r}")
        if key != "ceiling" and not 0 <= value <= 1:
            raise ConfigurationWrong(f"{FILE}: {name}.{key} lies between 0 and 1, it is {value}")
        if key == "ceiling" and value <= 0:
            raise ConfigurationWrong(f"{FILE}: {name}.ceiling is above 0, it is {value}")
    return Bound(**{key: float(value) for key, value in raw.items()})


def _every(raw: Any) -> tuple[str, ...]:
    if raw is None:
        return EVERY
    if not isinstance(raw, list) or not raw:
        raise ConfigurationWrong(f"{FILE}: every is a list of metrics")
    for name in raw:
        if name not in ROW_METRICS:
            raise ConfigurationWrong(f"unknown metric: {name!r} in every is none of {', '.join(ROW_METRICS)}")
    return tuple(raw)


def _judge(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    found = raw.get("judge") or {}
    if not isinstance(found, dict) or set(found) - {"blocks", "why"}:
        raise ConfigurationWrong(f"{FILE}: judge has blocks (true or false) and why")
    if "blocks" in found and not isinstance(found["blocks"], bool):
        raise ConfigurationWrong(f"{FILE}: judge.blocks is true or false, not {found['blocks']!r}")
    return found
