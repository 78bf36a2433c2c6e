"""Lab 08 without a cluster: its drafts and solutions as the services read them, its tables, and its pictures."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from helpers.apps.jobs import decisions as of_jobs
from helpers.apps.jobs.decisions import Ask
from helpers.apps.orchestrator import decisions
from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import yaml_cells
from helpers.grading.verdict import Status
from helpers.labs.lab06_orchestration.draw import settings_of
from helpers.labs.lab08_scale import (
    checks_queue,
    draw,
    draw_decisions,
    draw_pictures,
    draw_scale,
    proof_state,
)
from helpers.labs.lab08_scale.draw_pictures import Level, Line, Row
from helpers.settings import REPOSITORY
from helpers.stack import orchestrator

GIVEN = REPOSITORY / "solutions" / "given" / "08"
TABLES = {
    draw_decisions.order_table: 1,
    draw_decisions.failure_table: 1,
    draw_decisions.key_table: 1,
    draw_decisions.ttl_table: 1,
    draw_decisions.share_table: 1,
    draw_decisions.flight_table: 2,
}
NAMES = {
    draw_decisions.order_table: ("order",),
    draw_decisions.failure_table: ("after_failure",),
    draw_decisions.key_table: ("key",),
    draw_decisions.ttl_table: ("ttl_s",),
    draw_decisions.share_table: ("may_share",),
    draw_decisions.flight_table: ("lease_s", "while_another_works"),
}
KINDS = ("monitors_yaml", "rules_yaml", "scaled_pool_yaml", "scaled_workers_yaml")


def solved(name: str) -> str:
    tree = ast.parse(proof_state.SOLVED.read_text())
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.unparse(ast.FunctionDef(**{**vars(found), "decorator_list": []}))


def given(name: str) -> str:
    return (GIVEN / f"{name}.py.txt").read_text()


def functions(written: Callable[[str], str], names: tuple[str, ...]) -> list[Any]:
    place: dict[str, Any] = {"Ask": Ask}
    exec(orchestrator._HEAD + "\n\n".join(written(name) for name in names), place)
    return [place[name] for name in names]


@pytest.mark.parametrize("written", [solved, given], ids=["solved", "given"])
@pytest.mark.parametrize("file", proof_state.FUNCTIONS)
def test_the_services_read_every_draft_and_every_solution(file: str, written: Callable[[str], str]) -> None:
    """A draft is wrong in what it decides, and never in its shape: the pods must start with it."""
    names = proof_state.FUNCTIONS[file]
    text = orchestrator._HEAD + "\n\n".join(written(name) for name in names)
    points = [point for point in of_jobs.PLUG_POINTS if point.file == file]
    assert set(decisions.load(file, text.encode(), points, of_jobs.TYPES)) == set(names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_each_table_calls_the_solution_right_and_the_draft_wrong(table: Any) -> None:
    assert "is-FAIL" not in table(*functions(solved, NAMES[table])).text
    assert "is-FAIL" in table(*functions(given, NAMES[table])).text


@pytest.mark.parametrize("said", [None, "a text", -1, 10**9, [], {}, True, object(), "wait", 0.5])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_table_breaks_on_what_a_function_says(table: Any, said: Any) -> None:
    assert table(*[lambda *_: said] * TABLES[table]) is not None


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_function_that_raises_is_told_in_a_sentence(table: Any) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("left")

    assert "broken raised KeyError" in table(*[broken] * TABLES[table]).text
    assert "is no function" in table(*["a text"] * TABLES[table]).text


@pytest.mark.parametrize(
    ("lease_s", "while_another_works", "said"),
    [
        (lambda deadline: 1, lambda waited, lease: "wait", "while its holder works"),
        (lambda deadline: deadline + 1, lambda waited, lease: "generate", "up to 50 generations"),
        (lambda deadline: 86_400, lambda waited, lease: "wait", "somebody who is gone"),
        (
            lambda deadline: deadline + 1,
            lambda waited, lease: "wait" if waited < lease else "generate",
            "all 49 begin in the moment",
        ),
    ],
)
def test_each_way_to_lose_a_flight_is_named(lease_s: Any, while_another_works: Any, said: str) -> None:
    assert said in draw_decisions.flight_table(lease_s, while_another_works).text


@pytest.mark.parametrize(
    ("ttl_s", "right"),
    [
        (lambda base, chance: base * (0.9 + 0.2 * chance), True),
        (lambda base, chance: base * (1.3 - 0.6 * chance), True),
        (lambda base, chance: base + chance, False),
        (lambda base, chance: base * (0.4 + 0.4 * chance), False),
        (lambda base, chance: base * (1.2 + 0.4 * chance), False),
    ],
)
def test_the_table_of_ends_has_the_check_s_own_bounds(ttl_s: Any, right: bool) -> None:
    """What the table calls right is seen to be right, whatever chance draws of it but in 3 of 1000 cases."""
    assert ("is-FAIL" not in draw_decisions.ttl_table(ttl_s).text) == right
    ends = [ttl_s(1.0, chance) for chance in (0.25, 0.75)]  # half of the spread
    seen = checks_queue.what_was_kept_together_does_not_end_together.__wrapped__  # type: ignore[attr-defined]
    record = {"ends": {"kept": 12, "for_ever": 0, "least": min(ends), "most": max(ends)}}
    assert not right or seen(None, record).status is Status.PASS


@pytest.mark.parametrize("name", KINDS)
def test_draft_and_solution_are_objects_of_the_same_kinds(name: str) -> None:
    def kinds(text: str) -> set[str]:
        return {item["kind"] for item in yaml.safe_load_all(text)}

    assert kinds((GIVEN / f"{name}.yaml").read_text()) == kinds(yaml_cells("08")[name])


def test_the_draft_s_settings_are_those_of_the_start() -> None:
    draft = settings_of((GIVEN / "queue_settings.yaml").read_text())
    assert draft.items() <= draw.first_settings(FakeCluster()).items()
    assert draft.keys() == settings_of(yaml_cells("08")["queue_settings"]).keys()


# Pictures


def test_the_knee_is_where_twice_as_many_bring_no_fifth_more() -> None:
    levels = [
        Level(1, 28, 0.1),
        Level(2, 55, 0.12),
        Level(4, 103, 0.3),
        Level(8, 107, 1.4),
        Level(16, 107, 2.8),
    ]
    found = draw_pictures.knee(levels)
    assert found is not None and found.at_once == 4
    assert "**4** at once" in draw_pictures.knee_words(levels)
    assert draw_pictures.knee(levels[:3]) is None
    assert "lies further out" in draw_pictures.knee_words(levels[:3])
    assert draw_pictures.knee([]) is None and draw_pictures.knee_words([])


@pytest.mark.parametrize(
    ("replicas", "value", "wanted"), [(1, 700, 2), (1, 75, 1), (1, 76, 1), (1, 78, 2), (2, 10, 1), (2, 70, 2)]
)
def test_an_hpa_s_formula_with_its_tolerance(replicas: int, value: float, wanted: int) -> None:
    assert draw_pictures.asked_for(replicas, value, 70) == wanted


def test_what_is_held_is_added_up_over_time() -> None:
    assert draw_pictures.held([(0, 1), (60, 2), (120, 2)]) == ((0, 0.0), (60, 1.0), (120, 3.0))
    assert draw_pictures.held([]) == ()


def test_a_quantile_of_nothing_leaves_a_gap() -> None:
    assert draw_pictures.gap_free([(5, 1.0), (0, float("nan")), (2, 3.0)]) == ((2, 3.0), (5, 1.0))


def test_a_wave_is_told_and_drawn_from_its_record() -> None:
    seen = {
        "rest": 1,
        "asked_s": 12.4,
        "ready_s": 31.0,
        "changes": [[17.4, 1, 2], [130.0, 2, 1]],
        "ups": 1,
        "downs": 1,
        "asked": 240,
        "lost": 0,
    }
    line, seconds = draw_scale.replicas_line(seen)
    assert line.points == ((0.0, 1.0), (17.4, 2.0), (130.0, 1.0), (150.0, 1.0)) and seconds == 150
    assert "**12 s** after the step" in draw_scale.wave_words(
        seen
    ) and "none was lost" in draw_scale.wave_words(seen)
    assert "no second replica" in draw_scale.wave_words({"asked_s": None, "asked": 3, "lost": 2})


# As the witnesses left them on a cluster.
FAULTS = {
    "kills": {"killed": 3, "held": 9},
    "jobs": {"accepted": 92, "done": 92, "unfinished": 0, "dead": 0, "second": 0, "redelivered": 9},
}
STORM = {"storm": {"askers": 50, "generations": 1}, "holder": {"generations": 2}}


def test_what_faults_and_a_storm_left_is_told_and_drawn() -> None:
    assert "3 workers were killed, with 9 jobs" in draw.faults_words(FAULTS)
    assert "Of 92 jobs **none** had no answer" in draw.faults_words(FAULTS)
    assert json.dumps([draw.faults_chart(FAULTS).to_dict(), draw.storm_chart(STORM).to_dict()])


def test_charts_on_one_clock_have_one_domain() -> None:
    rows = [Row("a", (Line("x", ((0, 1), (5, 2))),)), Row("b", (Line("y", ()),), bound=4)]
    specs = [chart.to_dict() for chart in draw_pictures.clock_charts(rows, 90)]
    assert json.dumps(specs)
    domains = [
        layer["encoding"]["x"]["scale"]["domain"]
        for spec in specs
        for layer in spec["layer"]
        if "x" in layer["encoding"]
    ]
    assert domains == [[0, 90], [0, 90]]
