"""Lab 07 without a cluster: its drafts and solutions as services read them, its data sets, its pictures."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from helpers.apps.evals import gatefile, plug, rows
from helpers.apps.orchestrator import decisions
from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidInput
from helpers.grading.author import SOLUTION, fake_clusters
from helpers.grading.changes import applied, manifest, yaml_cells
from helpers.labs.lab07_gates import (
    draw,
    draw_decisions,
    draw_pictures,
    draw_traces,
    ground,
    history,
    mutants_gate,
    mutants_traces,
    proof_state,
    sets,
)
from helpers.labs.lab07_gates.mutants import PROOFS
from helpers.labs.registry import load_labs
from helpers.settings import REPOSITORY
from helpers.stack import assistant, gateway, releases, rollouts, traces

OBSERVABILITY = assistant.OBSERVABILITY
SOLVED = REPOSITORY / "solutions" / "07_gates.py"
GIVEN = REPOSITORY / "solutions" / "given" / "07"
METRICS = ("citation", "refusal", "retrieval_precision")
TRACE = ("span_attributes", "span_events")
PICTURES = {draw_decisions.metrics_table: 3, draw_decisions.trace_table: 2}


def solved(name: str) -> str:
    found = next(
        node
        for node in ast.parse(SOLVED.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return ast.unparse(ast.FunctionDef(**{**vars(found), "decorator_list": []}))


def given(name: str) -> str:
    return (GIVEN / f"{name}.py.txt").read_text()


def text_of(written: Callable[[str], str], names: tuple[str, ...]) -> str:
    return assistant.HEAD + "\n\n".join(written(name) for name in names)


def functions(written: Callable[[str], str], names: tuple[str, ...]) -> list[Any]:
    place: dict[str, Any] = {"SpanFacts": decisions.SpanFacts}
    exec(text_of(written, names), place)
    return [place[name] for name in names]


@pytest.mark.parametrize("written", [solved, given], ids=["solved", "given"])
def test_the_gate_and_the_service_read_every_draft_and_every_solution(written: Callable[[str], str]) -> None:
    """A draft is wrong in what it decides, and never in its shape."""
    assert set(plug.read(text_of(written, METRICS))) == set(METRICS)
    assert set(decisions.load("trace.py", text_of(written, TRACE).encode())) == set(TRACE)


def test_the_solution_s_metrics_score_every_planted_answer_rightly_and_the_drafts_do_not() -> None:
    assert ">0 of 19 planted answers" in draw_decisions.metrics_table(*functions(solved, METRICS)).text
    assert ">0 of 19 planted answers" not in draw_decisions.metrics_table(*functions(given, METRICS)).text


def test_the_solution_puts_each_attribute_on_one_span_and_the_draft_on_all() -> None:
    assert "each attribute on one span" in draw_decisions.trace_table(*functions(solved, TRACE)).text
    assert "more than once" in draw_decisions.trace_table(*functions(given, TRACE)).text


@pytest.mark.parametrize("said", [None, "a text", -1, 10**9, [], {}, True, object(), [("a",)], [1]])
@pytest.mark.parametrize("picture", PICTURES)
def test_no_picture_breaks_on_what_a_function_says(picture: Any, said: Any) -> None:
    assert picture(*[lambda *_: said] * PICTURES[picture]) is not None


@pytest.mark.parametrize("picture", PICTURES)
def test_a_function_that_raises_is_told_in_a_sentence(picture: Any) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("left")

    assert "broken raised KeyError" in picture(*[broken] * PICTURES[picture]).text
    assert "is no function" in picture(*["a text"] * PICTURES[picture]).text


# The sets


def test_the_course_s_own_sets_are_clean_and_each_fault_of_the_start_breaks_another_rule() -> None:
    own = {name: sets.as_data({name: sets.right_rows(name)})[f"{name}.jsonl"] for name in sets.NAMES}
    assert rows.hygiene(own) == []
    faulty = {name.removesuffix(".jsonl"): text for name, text in sets.given_sets().items()}
    kinds = [flaw.kind for flaw in rows.hygiene(faulty)]
    assert len(kinds) == len(set(kinds)) == sum(len(found) for found in sets.FAULTS.values())


def test_the_solution_s_review_leaves_clean_sets_and_the_draft_s_leaves_the_start_s() -> None:
    reviewed = sets.as_data(sets.reviewed(yaml_cells("07")["review"]))
    assert rows.hygiene({name.removesuffix(".jsonl"): text for name, text in reviewed.items()}) == []
    assert sets.is_given(sets.as_data(sets.reviewed((GIVEN / "review.yaml").read_text())))
    assert not sets.is_given(reviewed)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "- a",
        "drop: a",
        "drop: [1]",
        "change: [a]",
        "change: {a: b}",
        "other: []",
        "drop: [no-such-row]",
        "change: {no-such-row: {id: x}}",
        "a: [",
        "drop: [idle-pod-again, idle-pod-again]",
    ],
)
def test_a_review_that_is_none_is_named(text: Any) -> None:
    with pytest.raises(InvalidInput):
        sets.reviewed(text)
    assert "not yet" in draw_decisions.review_table(text).text


def test_of_two_rows_with_one_id_the_later_one_goes() -> None:
    found = sets.reviewed("drop: [quota-idle]")["golden"]
    assert [row["question"] for row in found if row["id"] == "quota-idle"] == [
        "Does an idle pod still use up the GPU quota?"
    ]


# The gate's file


@pytest.mark.parametrize("written", ["solved", "given"])
def test_the_runner_reads_the_gate_of_the_solution_and_of_the_draft(written: str) -> None:
    cells = yaml_cells("07")
    texts = [
        cells[name] if written == "solved" else (GIVEN / f"{name}.yaml").read_text()
        for name in ("gate_yaml", "judgement")
    ]
    found = gatefile.read(draw.gate_text(*texts))
    assert found.bounds and found.judge["blocks"] is (written == "given")


@pytest.mark.parametrize(
    "gate", [None, "", "- a", "rows: {}", "rows: {golden: all}\nmetrics: {no-such: {floor: 1}}"]
)
def test_a_gate_that_the_runner_would_refuse_is_named(gate: Any) -> None:
    with pytest.raises(InvalidInput):
        draw.gate_text(gate, "{blocks: false, why: figures}")


# The Collector


def test_a_pipeline_is_read_in_its_order() -> None:
    receivers, processors, exporters = draw_decisions.pipeline_of(yaml_cells("07")["collector_yaml"])
    assert (receivers, exporters) == (["otlp"], ["otlp_http/phoenix"])
    assert processors == ["memory_limiter", "tail_sampling", "redaction", "batch"]
    first = ground.first_collector()
    assert draw_decisions.pipeline_of(first)[1] == []
    assert (GIVEN / "collector_yaml.yaml").read_text() == first


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "a: [",
        "service: {}",
        "service: {pipelines: {traces: {receivers: otlp}}}",
        "service: {pipelines: {traces: {receivers: [otlp]}}}",
        "receivers: {otlp: {}}\nservice: {pipelines: {traces: {receivers: [otlp], processors: [batch]}}}",
    ],
)
def test_a_pipeline_that_is_none_is_named(text: Any) -> None:
    with pytest.raises(InvalidInput):
        draw_decisions.pipeline_of(text)
    assert "not yet" in draw_decisions.pipeline_picture(text).text


# The gateway


def test_a_gateway_of_lab_06_gets_the_way_to_the_assistant_and_keeps_its_limits() -> None:
    wanted = (gateway.MANIFESTS / "base" / "envoy.yaml").read_text()
    before = yaml.safe_load(wanted)
    clusters = before["static_resources"]["clusters"]
    before["static_resources"]["clusters"] = [item for item in clusters if item["name"] != assistant.ROLLOUT]
    routes = ground._routes(before)
    routes[:] = [item for item in routes if (item.get("route") or {}).get("cluster") != assistant.ROLLOUT]
    text = yaml.safe_dump(before, sort_keys=False).replace("timeout: 2s", "timeout: 3s")
    after = ground.with_way(text, wanted)
    assert "timeout: 3s" in after
    assert ground._routes(yaml.safe_load(after))[0]["route"]["cluster"] == assistant.ROLLOUT
    assert ground.with_way(after, wanted) == after


# Pictures


def test_a_tree_is_drawn_from_its_root_and_orphans_stand_at_the_left() -> None:
    bars = [
        draw_pictures.Bar("3", "1", "generate", 60, 900, "LLM"),
        draw_pictures.Bar("2", "1", "retrieve", 5, 50, "RETRIEVER"),
        draw_pictures.Bar("1", "", "chat", 0, 950, "AGENT"),
        draw_pictures.Bar("4", "3", "POST", 62, 890),
        draw_pictures.Bar("9", "8", "an orphan", 70, 80),
    ]
    order = [(depth, bar.name) for depth, bar in draw_pictures.in_tree_order(bars)]
    assert order == [(0, "chat"), (1, "retrieve"), (1, "generate"), (2, "POST"), (0, "an orphan")]
    assert draw_pictures.tree_text(bars)[3] == "    POST, 828 ms"


def test_a_tree_that_bites_its_tail_is_drawn_all_the_same() -> None:
    bars = [draw_pictures.Bar("1", "2", "a", 0, 1), draw_pictures.Bar("2", "1", "b", 0, 1)]
    assert len(draw_pictures.in_tree_order(bars)) <= 2


def test_a_score_has_to_reach_the_higher_of_floor_and_drop() -> None:
    score = draw_pictures.Score("hit", 0.87, 0.3, 40, floor=0.8, baseline=0.95, max_drop=0.05)
    assert score.least == pytest.approx(0.9) and not score.passes
    assert draw_pictures.Score("ratio", 1.4, ceiling=1.5).passes
    assert json.dumps(draw_pictures.scores_chart([score]).to_dict())


# What the cluster keeps


def replica_set(release: str, revision: str, created: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"llm-assistant-{revision}",
            "namespace": "llm-apps",
            "labels": {"app": "llm-assistant", rollouts.HASH: revision},
            "creationTimestamp": created,
        },
        "spec": {"template": {"metadata": {"annotations": {releases.ANNOTATION: release}}}},
    }


def analysis_run(revision: str, phase: str, finished: str) -> dict[str, Any]:
    measured = {"finishedAt": finished, "metadata": {"job-name": "none"}}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisRun",
        "metadata": {
            "name": f"llm-assistant-{revision}-2-1",
            "namespace": "llm-apps",
            "labels": {rollouts.HASH: revision},
            "ownerReferences": [{"kind": "Rollout", "name": "llm-assistant"}],
            "creationTimestamp": finished,
        },
        "status": {"phase": phase, "metricResults": [{"measurements": [measured]}]},
    }


def test_a_stopped_release_and_one_that_got_through_are_told_from_what_is_kept() -> None:
    cluster = FakeCluster()
    proof_state.start(cluster)
    cluster.delete("ReplicaSet", f"llm-assistant-{proof_state.STABLE_HASH}", "llm-apps")
    cluster.put(
        [
            replica_set("prompt-cut", "aaa", "2026-01-01T12:00:00Z"),
            analysis_run("aaa", "Failed", "2026-01-01T12:01:00Z"),
            replica_set("good", "bbb", "2026-01-01T12:02:00Z"),
            analysis_run("bbb", "Successful", "2026-01-01T12:03:00Z"),
        ]
    )
    now = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
    told = [(step.release, step.weight, step.verdict) for step in history.steps(cluster.view(), now)]
    assert told[:4] == [
        ("prompt-cut", 25, ""),
        ("prompt-cut", 0, "failed"),
        ("good", 25, ""),
        ("good", 100, "successful"),
    ]
    assert told[-1] == ("good", 100, "")


def test_a_cluster_without_an_assistant_has_no_releases_to_show() -> None:
    cluster = FakeCluster()
    proof_state.serves_rollouts(cluster)
    assert history.steps(cluster.view()) == []


def test_a_row_names_the_newest_trace_of_its_question() -> None:
    event = traces.Event("captured", {"question": "How much  is gone?", "answer": "…"})
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ids = json.dumps([rows.point_id("recovery-point"), "unknown"])
    span = traces.Span("generate", "t" * 32, "s", "", at, at, attributes={"ids": ids}, events=(event,))
    tree = traces.Tree("t" * 32, (span,))
    assert draw_traces.captured(tree)["answer"] == "…"
    assert draw_traces.found_passages(tree) == ["recovery-point"]
    assert draw_traces.tree_picture(tree) is not None


@pytest.mark.parametrize("text", [None, "", "- a", "a: [", "id: x", "question: 1"])
def test_a_row_that_is_none_is_named(text: Any) -> None:
    with pytest.raises(InvalidInput):
        draw_traces.row_of(FakeCluster().view(), text)


def test_a_day_of_users_is_found_behind_a_thousand_questions_of_a_witness() -> None:
    """`$TRACE` and the table look for the users' traces first, whoever asked since."""
    cluster = FakeCluster()
    applied(manifest("Namespace", OBSERVABILITY), manifest("Service", assistant.PHOENIX, OBSERVABILITY))(
        cluster
    )
    by_users, by_witness = "a" * 32, "b" * 32

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        asked = parse_qs(urlsplit(path).query)
        ids = asked.get("trace_id") or [by_users if "attribute" in asked else by_witness]
        return 200, json.dumps({"data": [stored(name, name == by_users) for name in ids]})

    cluster.serve(OBSERVABILITY, assistant.PHOENIX, traces.PORT, answer)
    text = f"id: r-x\nquestion: {releases.LOST_QUESTION}\nsource: trace:$TRACE\n"
    assert draw_traces.row_of(cluster.view(), text)["source"] == f"trace:{by_users}"


def stored(trace_id: str, by_users: bool) -> dict[str, Any]:
    """A root as Phoenix answers it; the users' with what was asked."""
    at, asked = "2026-01-01T12:00:00+00:00", {"question": releases.LOST_QUESTION}
    return {
        "name": traces.ROOT,
        "context": {"trace_id": trace_id, "span_id": "1"},
        "parent_id": None,
        "start_time": at,
        "end_time": at,
        "attributes": {traces.TENANT: "users" if by_users else "witness"},
        "events": [{"name": "captured", "attributes": asked}] if by_users else [],
    }


def verdict(cluster: FakeCluster, check: str) -> tuple[str, str]:
    """Status and words of one check."""
    found = next(item for item in load_labs(["07"])[0].checks if item.id == check)
    said = found.function(cluster.view())
    return said.status.value, said.observed


@pytest.fixture
def right() -> FakeCluster:
    cluster = fake_clusters(PROOFS)(SOLUTION)
    assert isinstance(cluster, FakeCluster)
    return cluster


def test_a_row_of_an_earlier_day_of_users_counts(right: FakeCluster) -> None:
    """`course witness users` ran again: its pod has another name, and Phoenix knows who asked."""
    mutants_gate.with_row({**mutants_gate.ROW, "source": f"trace:{'a' * 32}"})(right)
    assert verdict(right, "loop.row")[0] == "PARTIAL"
    right.serve(
        OBSERVABILITY,
        assistant.PHOENIX,
        traces.PORT,
        lambda method, path, body: (200, json.dumps({"data": [stored("a" * 32, True)]})),
    )
    assert verdict(right, "loop.row")[0] == "PASS"


def test_a_gate_of_the_golden_set_alone_asks_enough(right: FakeCluster) -> None:
    """Bad releases are judged on six golden rows: what the course leaves out is nobody's fault."""

    def edit(seen: dict[str, Any]) -> None:
        for name in releases.BAD:
            seen["runs"][name][2] = 6

    mutants_gate.witnessed("gate", edit)(right)
    assert verdict(right, "gate.verdicts")[0] == "PASS"


@pytest.mark.parametrize("blocks", [True, False])
def test_between_chance_and_moderate_either_decision_is_one(blocks: bool, right: FakeCluster) -> None:
    figures = {"kappa": 0.3, "low": 0.1, "high": 0.5, "agreement": 0.65}
    mutants_gate._judge(blocks=blocks, why="kappa 0.30, from 0.10 to 0.50")(right)
    mutants_gate.witnessed("judge", lambda seen: seen.update(figures))(right)
    assert verdict(right, "judge.measured")[0] == "PASS"


def test_a_job_that_tidies_up_takes_no_record_of_break_glass_with_it(right: FakeCluster) -> None:
    for pod in right.view().pods(
        "llm-apps", labels=f"batch.kubernetes.io/job-name={mutants_gate.RUN_UID}.quality.1"
    ):
        right.delete("Pod", pod.name, "llm-apps")
    assert verdict(right, "release.breakglass")[0] == "PASS"


def test_a_baseline_of_the_bad_release_that_users_have_says_how_to_get_rid_of_it(right: FakeCluster) -> None:
    mutants_gate._baseline(lambda found: found["pins"].update(release="prompt-cut"))(right)
    found = next(item for item in load_labs(["07"])[0].checks if item.id == "floors.baseline")
    assert found.function(right.view()).next_command == "course release stable"


@pytest.mark.parametrize(
    ("pipelines", "status"),
    [
        ({"traces/all": ["memory_limiter", "batch"]}, "PASS"),
        ({"traces/a": ["memory_limiter/small", "batch"], "traces/b": ["memory_limiter"]}, "PASS"),
        ({"traces/a": ["memory_limiter"], "traces/b": ["batch"]}, "PARTIAL"),
        ({"traces/a": []}, "PARTIAL"),
        ({"metrics": ["memory_limiter"]}, "PARTIAL"),
    ],
)
def test_a_pipeline_may_have_a_name_of_its_own(
    pipelines: dict[str, list[str]], status: str, right: FakeCluster
) -> None:
    config = {
        "receivers": {"otlp": {}},
        "service": {
            "pipelines": {
                name: {"receivers": ["otlp"], "processors": processors, "exporters": ["x"]}
                for name, processors in pipelines.items()
            }
        },
    }
    proof_state.collector_config(yaml.safe_dump(config))(right)
    mutants_traces.witnessed("collector")(right)
    assert verdict(right, "collector.gone")[0] == status


def test_a_collector_that_got_its_configuration_by_hand_is_replaced_and_one_as_it_began_is_not() -> None:
    cluster = FakeCluster()
    proof_state.start(cluster)

    def checksum() -> Any:
        found = cluster.view().get("Deployment", assistant.COLLECTOR, OBSERVABILITY)
        return (found.path("spec.template.metadata.annotations", {}) or {}).get(ground.CHECKSUM)

    ground.follow_collector(cluster)
    assert checksum() is None
    proof_state.collector_config(yaml_cells("07")["collector_yaml"])(cluster)
    ground.follow_collector(cluster)
    before = checksum()
    ground.follow_collector(cluster)
    assert before and checksum() == before


def test_a_question_that_a_busy_machine_turned_away_is_no_error_that_was_lost(right: FakeCluster) -> None:
    statuses = {"200": 176, "429": 4, "503": 20}
    mutants_traces._saw("collector", statuses=statuses, failed=24)(right)
    assert verdict(right, "collector.errors")[0] == "PASS"
    mutants_traces._saw("collector", statuses=statuses, failed=24, errors=19)(right)
    assert verdict(right, "collector.errors") == ("PARTIAL", "19 of 20 errors kept whole")
