"""The controller's half of lab 09's page: previews of right and wrong functions, drafts that fall short, and panels."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from helpers.apps.isvc.decisions import FILE, PLUG_POINTS, TYPES, InvalidSpec
from helpers.apps.orchestrator.decisions import load
from helpers.errors import InvalidManifest
from helpers.labs.lab09_models import draw_controller as draw
from helpers.labs.lab09_models.proof_controller import functions_text, objects, serving, start
from helpers.settings import REPOSITORY
from helpers.stack import isvc
from tests.unit.isvc_fakes import cluster_with

GIVEN = REPOSITORY / "solutions" / "given" / "09"
RIGHT = load(FILE, functions_text().encode(), PLUG_POINTS, TYPES)
TABLES: dict[str, Callable[..., Any]] = {
    "find_runtime": draw.runtime_table,
    "model_volume": draw.volume_table,
    "children": draw.children_table,
    "step": draw.step_table,
    "wakes": draw.wakes_table,
    "status": draw.status_table,
}


def text_of(drawn: Any) -> str:
    """What a table says, without its tags."""
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", drawn.text).split()))


def failures(drawn: Any) -> int:
    return drawn.text.count("c-FAIL") or drawn.text.count("FAIL")


def drafts() -> dict[str, Any]:
    """The page's functions as a learner finds them."""
    names = ("find_runtime", "model_volume", "children", "step", "wakes", "serves", "status")
    given = {name: (GIVEN / f"{name}.py.txt").read_text() for name in names}
    text = functions_text()
    for name, draft in given.items():
        text = re.sub(rf"(?ms)^def {name}\(.*?(?=^def |\Z)", lambda _, draft=draft: draft + "\n\n", text)  # type: ignore[misc]
    return dict(load(FILE, text.encode(), PLUG_POINTS, TYPES))


@pytest.mark.parametrize("name", TABLES)
def test_no_line_is_red_for_the_solution(name: str) -> None:
    assert failures(TABLES[name](RIGHT[name])) == 0, text_of(TABLES[name](RIGHT[name]))


@pytest.mark.parametrize("name", TABLES)
def test_every_draft_is_a_controller_s_and_has_red_lines(name: str) -> None:
    assert failures(TABLES[name](drafts()[name])) > 0


def test_the_drafts_can_be_delivered_as_they_are() -> None:
    """What falls short is what they do: a learner may try them on the cluster first."""
    assert set(drafts()) == set(TABLES)


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("find_runtime", lambda model, runtimes: None, "not one of the ServingRuntimes"),
        ("find_runtime", lambda model, runtimes: runtimes[9], "raised IndexError"),
        ("model_volume", lambda uri: {"image": {}}, "not a volume's source and a path in it"),
        ("children", lambda service, runtime: [], "there is no Deployment"),
        ("step", lambda service, wanted, found: "create", "none of apply, leave, refuse"),
        ("wakes", lambda kind, change: kind != "clock", "an event is lost"),
        ("wakes", "yes", "is no function"),
        ("status", lambda service, seen, problem: {}, "without a list of conditions"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_where_it_is_made(name: str, function: Any, said: str) -> None:
    drawn = TABLES[name](function)
    assert said in text_of(drawn) and failures(drawn) > 0


def test_a_status_that_refuses_is_told() -> None:
    def status(service: object, seen: object, problem: object) -> object:
        raise InvalidSpec("no")

    assert "has nothing to refuse" in text_of(draw.status_table(status))


def test_a_clock_alone_is_late_and_not_wrong() -> None:
    drawn = draw.wakes_table(lambda kind, change: kind == "clock")
    assert failures(drawn) == 0 and "within ten seconds" in text_of(drawn)


def test_a_preview_does_not_change_what_the_next_one_is_given() -> None:
    def find_runtime(model: Any, runtimes: Any) -> Any:
        model.clear()
        return runtimes.pop()

    draw.runtime_table(find_runtime)
    assert failures(draw.runtime_table(RIGHT["find_runtime"])) == 0


# What is there


class Session:
    """As much of a page's session as drawing asks for."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.profile, self.pressed = cluster, cluster.profile(), False


def drawn(cluster: Any) -> str:
    return text_of(draw.wanted_and_seen.__wrapped__(Session(cluster)))  # type: ignore[attr-defined]


def test_wanted_stands_beside_seen() -> None:
    from helpers.cluster.fake import FakeCluster
    from helpers.labs.lab09_models import proof_staging

    cluster = FakeCluster()
    proof_staging.start(cluster)
    assert "when the lab was started" in drawn(cluster)
    start(cluster)
    assert "as soon as there is one" in drawn(cluster)
    (service,) = objects("isvc_yaml")
    cluster.apply(service)
    assert "nothing nothing yet" in drawn(cluster)
    serving(service)(cluster)
    said = drawn(cluster)
    assert "1 of 1 new pods, 1 serve" in said and "Ready: True Serving" in said
    cluster.delete("Service", isvc.predictor("smollm"), "llm-models")
    assert "no Service" in drawn(cluster)
    changed = {"spec": {"predictor": {"minReplicas": 2}}}
    cluster.patch(isvc.SERVICE, "smollm", changed, "llm-models")
    assert "(of generation 1)" in drawn(cluster)
    longest = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": 300 * "x"}
    cluster.set_status(
        isvc.SERVICE, "smollm", {"observedGeneration": 2, "conditions": [longest]}, "llm-models"
    )
    assert "InvalidSpec: x" in drawn(cluster) and 120 * "x" not in drawn(cluster)


def test_kinds_that_are_not_served_are_no_mistake() -> None:
    cluster = cluster_with()
    cluster.backend.types = [item for item in cluster.backend.types if item.kind != isvc.SERVICE]
    with pytest.raises(InvalidManifest):
        cluster.view().list(isvc.SERVICE, "llm-models")
    assert "when the lab was started" in drawn(cluster)
