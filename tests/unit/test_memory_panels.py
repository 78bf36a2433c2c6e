"""Lab 03's page on what a learner may write: each wrong value is named, none ends in a traceback or is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidInput, ObjectMissing, StepMissing
from helpers.grading.changes import solved
from helpers.labs.lab03_memory import draw, learner_input, mutants, sizing
from helpers.labs.lab03_memory.sizing import Collection
from helpers.notebook.session import LabSession
from helpers.settings import REPOSITORY
from helpers.stack import memory

PLAN = Collection(vectors=2_000_000, dimensions=384, payload_bytes=512, snapshots=2)
PRESSED = SimpleNamespace(value=True, text="<marimo-button></marimo-button>")
VECTOR = [0.1, 0.2]


def _session() -> LabSession:
    cluster = FakeCluster()
    return LabSession("03", cluster, cluster.identity(), cluster.profile())


def _text(part: Any) -> str:
    return str(part.text)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("lots", "not a Kubernetes quantity"),
        (None, "not a Kubernetes quantity"),
        ("10", "a unit is missing"),
        (10, "a unit is missing"),
        ("-5Gi", "no space at all"),
    ],
)
def test_a_claim_that_no_volume_has_is_named(claim: Any, words: str) -> None:
    assert words in _text(draw.sizing_picture(PLAN, claim))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (None, "Collection(vectors=…, dimensions=…)"),
        (Collection(vectors="many", dimensions=384), "vectors is &#39;many&#39;"),  # type: ignore[arg-type]
        (Collection(vectors=5, dimensions=-1), "dimensions is -1"),
        (Collection(vectors=float("nan"), dimensions=1), "vectors is nan"),  # type: ignore[arg-type]
    ],
)
def test_a_plan_that_cannot_be_added_up_is_named(plan: Any, words: str) -> None:
    assert words in _text(draw.sizing_picture(plan, "16Gi"))


def test_the_plan_says_where_it_counts_snapshots_and_where_this_labs_lie() -> None:
    shown = _text(draw.sizing_picture(PLAN, "16Gi"))
    assert "Assumed: the snapshots lie on the claim" in shown
    assert "at most <b>6.1 GiB</b>, and <b>8.1 GiB</b>" in shown and "DiskPressure" in shown
    rows = draw._where(sizing.size(PLAN))
    on_node = {row["part"] for row in rows if row["where"] == draw.ON_THE_NODE}
    on_claim = {row["part"] for row in rows if row["where"] == draw.ON_THE_CLAIM}
    assert on_node == {"snapshots"} and "vectors" in on_claim and "snapshots" not in on_claim


def test_the_labs_manifests_do_keep_snapshots_in_an_emptydir_beside_the_claim() -> None:
    base = yaml.safe_load((REPOSITORY / "manifests/stack/qdrant/base/statefulset.yaml").read_text())
    (ours,) = (item for item in solved("03", "memory_yaml") if item["kind"] == "StatefulSet")
    for found in (base, ours):
        pod = found["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (mount,) = (
            item for item in pod["containers"][0]["volumeMounts"] if item["mountPath"] == "/qdrant/snapshots"
        )
        assert "emptyDir" in volumes[mount["name"]]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (None, "collection is None"),
        ([], "collection is []"),
        ({"size": 384}, 'lacks "distance", "index"'),
        ({"sise": 384, "distance": "Cosine", "index": None}, 'has "sise"'),
        ({"size": "abc", "distance": "Cosine", "index": None}, "\"size\" is 'abc'"),
        ({"size": True, "distance": "Cosine", "index": None}, '"size" is True'),
        ({"size": 99_999_999, "distance": "Cosine", "index": None}, "65,536"),
        ({"size": 384, "distance": "cosine", "index": None}, "Cosine, Euclid, Dot, Manhattan"),
        ({"size": 384, "distance": ["Cosine"], "index": None}, '"distance" is'),
        ({"size": 384, "distance": "Cosine", "index": 7}, '"index" is 7'),
        (
            {"size": 384, "distance": "Cosine", "index": "keyword"},
            'one of "key", "kind", "layer", "title", "text", or None',
        ),
        ({"size": 0, "distance": "cosine", "index": None}, '"size" is 0'),
        ({"size": 0, "distance": "cosine", "index": None}, "\"distance\" is 'cosine'"),
    ],
)
def test_a_collection_that_qdrant_does_not_take_is_named_before_the_old_one_is_dropped(
    wanted: Any, words: str
) -> None:
    with pytest.raises(InvalidInput) as problem:
        learner_input.collection_of(wanted)
    assert words in str(problem.value)
    assert "The cell above cannot be used as it is." in _text(draw.collection_preview(_session(), wanted))


def test_a_collection_that_qdrant_takes_is_passed_on_as_it_is() -> None:
    wanted = {"size": 384, "distance": "Cosine", "index": "layer"}
    assert learner_input.collection_of(wanted) == wanted


def _tier(passage: Any, vector: Any) -> Any:
    return {"id": passage.id, "vector": vector, "payload": {"tier": passage.layer, "text": passage.text}}


def test_a_field_that_the_learner_writes_may_be_indexed() -> None:
    wanted = {"size": 384, "distance": "Cosine", "index": "tier"}
    assert learner_input.collection_of(wanted, _tier) == wanted
    with pytest.raises(InvalidInput, match="\"index\" is 'tier'"):
        learner_input.collection_of(wanted)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("text", "each passage has another &#34;text&#34;"),
        ("text", "Fields in which passages agree: &#34;tier&#34;"),
        ("layer", "writes no field &#34;layer&#34; so far, only &#34;tier&#34;, &#34;text&#34;"),
    ],
)
def test_an_index_that_no_filter_could_use_is_doubted_in_the_preview(index: str, words: str) -> None:
    wanted = {"size": 384, "distance": "Cosine", "index": index}
    shown = (
        _text(draw.collection_preview(_session(), wanted, _tier)).replace("<code>", "").replace("</code>", "")
    )
    assert words in shown


@pytest.mark.parametrize("index", ["tier", None])
def test_an_index_that_serves_a_filter_is_not_doubted(index: str | None) -> None:
    assert learner_input.index_of_little_use(index, _tier) == ""


def _raises(passage: Any, vector: Any) -> Any:
    raise RuntimeError("oops")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, "what `to_point` returns is None"),
        ([1, 2], "what `to_point` returns is [1, 2]"),
        ({}, 'lacks "id", "vector"'),
        ({"id": 1, "vectors": VECTOR}, 'has "vectors"'),
        ({"id": "not-a-uuid", "vector": VECTOR}, "\"id\" is 'not-a-uuid'"),
        ({"id": 1, "vector": "x"}, "\"vector\" is 'x'"),
        ({"id": 1, "vector": VECTOR, "payload": "text"}, "\"payload\" is 'text'"),
    ],
)
def test_what_is_no_point_is_named_and_not_sent(made: Any, words: str) -> None:
    make = learner_input.checked(lambda passage, vector: made)
    with pytest.raises(InvalidInput) as problem:
        make(memory.corpus()[0], VECTOR)
    assert words in str(problem.value)


@pytest.mark.parametrize(("to_point", "words"), [(_raises, "RuntimeError: oops"), (None, "not a function")])
def test_a_function_that_makes_no_point_becomes_a_card(to_point: Any, words: str) -> None:
    panel = _text(draw.ingest_panel(_session(), PRESSED, memory.corpus(), to_point))
    assert "No point yet." in panel and words in panel


def test_the_first_point_is_shown_with_its_long_fields_cut_visibly() -> None:
    panel = _text(
        draw.ingest_panel(_session(), SimpleNamespace(value=False, text=""), memory.corpus(), memory.as_point)
    )
    assert "the same id each time" in panel and "…" in panel


@pytest.mark.parametrize(
    ("question", "layer", "words"),
    [(None, None, "`question` is None"), ("  ", None, "`question` is"), ("Why?", 5, "`layer` is 5")],
)
def test_a_question_that_is_none_becomes_a_card(question: Any, layer: Any, words: str) -> None:
    shown = _text(draw.answers(_session(), question, layer)).replace("<code>", "`").replace("</code>", "`")
    assert "The cell above cannot be used as it is." in shown and words in shown


def test_no_hit_in_a_layer_that_does_not_exist_names_those_that_do() -> None:
    assert "no layer <code>nope</code>" in draw._no_hits("nope")
    assert "isolation, memory" in draw._no_hits("nope")
    assert "field <code>layer</code>" in draw._no_hits("memory")


@pytest.mark.parametrize(
    ("now", "wanted", "words"),
    [
        ("1.x", "1.20", "&#39;1.x&#39; is not a version"),
        ("1", "1.20", "is not a version"),
        (1.15, 1.20, "1.15 is not a version"),
        (None, None, "None is not a version"),
        ("", "1.20", "is not a version"),
        ("1.20", "1.15", "No way back."),
        ("2.0", "1.20", "No way back."),
        ("1.20", "2.0", "another <i>major</i> version"),
        ("1.15", "1.15", "no rollout"),
        ("1.15", "1.16", "1 rollout<"),
        ("v1.15.3", "1.17.1", "2 rollouts"),
        ("1.1", "1.900", "899 rollouts"),
    ],
)
def test_an_upgrade_path_follows_any_two_versions(now: Any, wanted: Any, words: str) -> None:
    shown = _text(draw.upgrade_path(now, wanted))
    assert words in shown and shown.count("chip") <= draw.MOST_STEPS


def test_a_collection_is_not_waited_for_where_nothing_was_applied() -> None:
    with pytest.raises(ObjectMissing, match="StatefulSet"):
        draw.wait_for_qdrant(_session(), print)


def test_a_volume_is_not_lost_before_there_is_a_copy(tmp_path: Path) -> None:
    with pytest.raises(StepMissing, match="Nothing was changed"):
        draw.newest_copy(tmp_path)
    (tmp_path / "a.snapshot").touch()
    assert draw.newest_copy(tmp_path).name == "a.snapshot"


def test_the_button_stays_where_what_it_does_ends_in_a_card() -> None:
    shown = _text(draw.broken_panel(_session(), PRESSED))
    assert "marimo-button" in shown and "no Service named qdrant" in shown


def test_what_was_waited_for_is_seen_at_the_end_of_the_time_line() -> None:
    def moment(at_s: float, ready: bool) -> memory.Moment:
        return memory.Moment(at_s, "new", "Running", ready, int(ready), "200" if ready else "no endpoint")

    chart = draw.timeline([moment(0, False), moment(3, True)]).to_dict()
    (rows,) = chart["datasets"].values()
    ready = [row["to"] - row["from"] for row in rows if row["what"] == "Ready" and row["state"] == "yes"]
    assert ready == [pytest.approx(draw.LAST_S)]


# Qdrant by Helm


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "qdrant_values` is None"),
        ("", "it is a text in quotes"),
        ("a: [", "is not YAML"),
        ("just words", "one mapping"),
        ("a: 1\n---\nb: 2", "one mapping"),
    ],
)
def test_values_that_no_chart_takes_are_named(values: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        learner_input.values_of(values)
    assert "The cell above cannot be used as it is." in _text(draw.helm_command(_session(), values))


def test_the_command_names_the_file_that_holds_the_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    shown = _text(draw.helm_command(_session(), "\n    a: 1\n    b:\n      c: 2\n    "))
    assert f"-f {tmp_path / 'qdrant-values.yaml'}" in shown
    assert "qdrant manifests/stack/qdrant/chart -n llm-system" in shown
    assert (tmp_path / "qdrant-values.yaml").read_text() == "a: 1\nb:\n  c: 2\n"
    monkeypatch.chdir(tmp_path)
    assert f"qdrant {REPOSITORY}/manifests/stack/qdrant/chart" in _text(draw.helm_command(_session(), "a: 1"))


def test_on_another_cluster_the_official_chart_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    session = _session()
    assert session.cluster and session.profile
    profile = replace(session.profile, overlay="gpu")
    monkeypatch.setattr(session.cluster, "profile", lambda: profile)
    shown = _text(draw.helm_command(session, "a: 1"))
    assert "--repo https://qdrant.github.io/qdrant-helm" in shown
    assert "manifests/stack" not in shown


def test_a_failed_revision_is_shown_with_the_way_back() -> None:
    session = _session()
    assert "no release named qdrant" in _text(draw.releases(session))
    mutants.released(("deployed", "Install complete"))(session.cluster)
    assert "go back" not in _text(draw.releases(session))
    mutants.released(("deployed", "Install complete"), ("failed", "<refused>"))(session.cluster)
    shown = _text(draw.releases(session))
    assert "&lt;refused&gt;" in shown
    assert "helm rollback qdrant 1 -n llm-system --wait" in shown
