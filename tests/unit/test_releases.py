"""Releases of the assistant and what overrides a gate, on a cluster that is a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import StepMissing
from helpers.grading.author import SOLUTION, fake_clusters
from helpers.labs.lab07_gates import mutants_gate, proof_state, witness_gate
from helpers.labs.lab07_gates.mutants import PROOFS
from helpers.stack import assistant, evals, memory, releases, rollouts
from helpers.stack.embeddings import embedder
from tests.contract.qdrant_process import QdrantProcess

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "llm-assistant"}},
    "spec": {
        "containers": [
            {
                "name": "llm-assistant",
                "env": [{"name": "POD", "value": "x"}, {"name": "PROMPT_GOOD", "value": "y"}],
            },
            {"name": "beside"},
        ]
    },
}


@pytest.fixture
def solved() -> FakeCluster:
    cluster = fake_clusters(PROOFS)(SOLUTION)
    assert isinstance(cluster, FakeCluster)
    return cluster


def test_a_release_leaves_nothing_of_the_one_before() -> None:
    good = releases.with_release(deepcopy(TEMPLATE), releases.GOOD, "llm-assistant")
    again = releases.with_release(good, "no-retrieval", "llm-assistant")
    variables = {item["name"]: item["value"] for item in again["spec"]["containers"][0]["env"]}
    assert variables == {"POD": "x", **releases.RELEASES["no-retrieval"].environment}
    assert again["metadata"]["annotations"][releases.ANNOTATION] == "no-retrieval"
    assert "env" not in again["spec"]["containers"][1]


def test_every_bad_release_differs_from_the_stable_one_in_what_gives_it_away() -> None:
    stable = releases.RELEASES[releases.STABLE]
    assert len(releases.BAD) == 5
    for name in releases.BAD:
        found = releases.RELEASES[name]
        assert (found.prompt, found.retrieval, found.collection, found.output_tokens) != (
            stable.prompt,
            stable.retrieval,
            stable.collection,
            stable.output_tokens,
        ), name


def test_no_variable_is_empty_for_the_api_server_drops_it() -> None:
    assert all(value for item in releases.RELEASES.values() for value in item.environment.values())


def test_the_question_of_the_lost_page_needs_the_page_that_was_lost(solved: FakeCluster) -> None:
    asked = [row for text in evals.sets_in(solved.view()).values() for row in text.splitlines()]
    assert sum(releases.LOST_KEY in line for line in asked) == 1  # the row that part 8 adds


def test_a_release_is_a_revision_of_its_own_each_time(solved: FakeCluster) -> None:
    assert rollouts.release(solved, releases.GOOD) == releases.STABLE
    first = rollouts.rollout(solved.view()).path("spec.template")
    rollouts.release(solved, releases.GOOD)
    assert rollouts.rollout(solved.view()).path("spec.template") != first
    assert first["spec"]["containers"][0]["image"]


def test_glass_is_broken_for_a_stopped_release_alone_and_leaves_its_figures() -> None:
    cluster = fake_clusters(PROOFS)(SOLUTION)
    with pytest.raises(StepMissing, match="No release is stopped"):
        rollouts.break_glass(cluster, ticket="T-1", approver="A", why="W")
    proof_state.released(
        "prompt-cut", revision="77aa", phase="Degraded", abort=True, stableRS=proof_state.STABLE_HASH
    )(cluster)
    mutants_gate.analysed("77aa")(cluster)
    with pytest.raises(StepMissing, match="approver"):
        rollouts.break_glass(cluster, ticket="T-1", approver=" ", why="W")
    record = rollouts.break_glass(cluster, ticket="T-1", approver="A", why="W")
    assert record.figures == mutants_gate.FIGURES and record.run == mutants_gate.RUN
    kept = next(item for item in rollouts.records(cluster.view()) if item.revision == "77aa")
    assert (kept.ticket, kept.release, kept.figures) == ("T-1", "prompt-cut", mutants_gate.FIGURES)
    status = rollouts.rollout(cluster.view()).path("status")
    assert status["promoteFull"] is True and not status.get("abort")


@pytest.mark.parametrize("status", [{"phase": "Degraded", "abort": True}, {"phase": "Progressing"}])
def test_settings_that_are_delivered_let_no_release_past_its_gate(
    status: dict[str, Any], solved: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go to the pods of the release that users have, and all pods are replaced at once."""
    monkeypatch.setattr(rollouts, "SEEN_S", 0.0)
    proof_state.released("prompt-cut", revision="77aa", **{"stableRS": proof_state.STABLE_HASH, **status})(
        solved
    )
    proof_state.settings({"OTEL_TRACES_SAMPLER": "always_off"})(solved)
    assert rollouts.roll_out(solved) and not rollouts.roll_out(solved)
    template = rollouts.rollout(solved.view()).path("spec.template")
    annotations = template["metadata"]["annotations"]
    assert annotations[releases.ANNOTATION] == releases.STABLE
    assert assistant.checksums(solved.view()).items() <= annotations.items()
    variables = {item["name"]: item.get("value") for item in template["spec"]["containers"][0]["env"]}
    assert variables["RELEASE"] == releases.STABLE and "PROMPT_PROMPT_CUT" not in variables


def test_the_learners_job_is_read_as_argo_would_start_it(solved: FakeCluster) -> None:
    job = witness_gate.learners_job(solved.view())
    assert job["command"][:4] == ["python3", "-m", "helpers.apps.evals", "gate"]
    assert job["env"] == {"INTERNAL_API_TOKEN": None}
    assert job["folders"] == {f"/etc/evals/{part}": part for part in evals.MAPS.values()}


def test_arguments_of_the_analysis_are_filled_in() -> None:
    assert (
        witness_gate._filled("{{args.url}}/x and {{ args.url }}", {"url": "http://c"})
        == "http://c/x and http://c"
    )


def test_a_new_row_of_the_regression_set_changes_no_record_but_the_loops(solved: FakeCluster) -> None:
    before = {name: witness_gate.bound_to(solved.view(), name) for name in ("gate", "release", "loop")}
    data = assistant.data_in(solved.view(), assistant.SETS)["regression.jsonl"]
    assistant.put_data(solved, assistant.SETS, {"regression.jsonl": data.replace("tier=pr", "tier=PR")})
    after = {name: witness_gate.bound_to(solved.view(), name) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["loop"]


@pytest.mark.parametrize("name", witness_gate.WITNESSES)
def test_a_record_fits_its_share_of_a_pods_messages(name: str, solved: FakeCluster) -> None:
    """12 KiB a pod, an equal part for each container, 4 KiB at most."""
    spec = witness_gate.make(solved.view(), name)["spec"]["template"]["spec"]
    containers = len(spec["containers"]) + len(spec.get("initContainers") or [])
    record = witness_gate.BOOK.record(solved.view(), name)
    text = str({"seen": record.seen, "files": record.files, "job": "0" * 36, "pod": "0" * 24})
    assert len(text) < min(4096, 12288 // containers) - 300


def test_a_bad_release_that_users_have_is_not_released_to_them_as_a_canary(solved: FakeCluster) -> None:
    proof_state.released(witness_gate.BAD_ONE, revision="77aa")(solved)
    with pytest.raises(StepMissing, match="Users have prompt-cut already") as raised:
        witness_gate.run(solved, "release", on_progress=lambda line: None)
    assert raised.value.next_command == "course release stable"


# -- collections beside the corpus's own --------------------------------------------------------


class OneQdrant:
    """Qdrant's server as a process, and the cluster that replaces its pod."""

    def __init__(self, process: QdrantProcess) -> None:
        self.process, self.replaced = process, 0

    def delete(self, kind: str, name: str, namespace: str, **_: Any) -> bool:
        assert (kind, name, namespace) == ("Pod", "qdrant-0", "llm-system")
        self.process.stop()
        self.process.start()
        self.replaced += 1
        return True

    def wait_rollout(self, kind: str, name: str, namespace: str, **_: Any) -> None:
        assert (kind, name) == ("StatefulSet", "qdrant")

    def writes(self) -> float:
        with memory.connect(self) as qdrant:  # type: ignore[arg-type]
            return memory.writes_received(qdrant.metrics())


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneQdrant]:
    process = QdrantProcess(tmp_path)

    @contextmanager
    def connect(_: Any) -> Iterator[memory.Memory]:
        found = memory.Memory(process.url)
        try:
            yield found
        finally:
            found.close()

    monkeypatch.setattr(memory, "connect", connect)
    process.start()
    with connect(None) as qdrant:
        qdrant.create_collection()
        qdrant.ingest(memory.corpus()[:4], embedder())
    yield OneQdrant(process)
    process.stop()


def test_a_qdrant_that_was_sent_nothing_is_one_again_after_its_collections_are_filled(one: OneQdrant) -> None:
    one.process.stop()
    one.process.start()
    assert one.writes() == 0
    assert len(releases.ensure_collections(one)) == 2  # type: ignore[arg-type]
    assert (one.writes(), one.replaced) == (0, 1)
    assert releases.ensure_collections(one) == []  # type: ignore[arg-type]
    assert one.replaced == 1


def test_a_qdrant_that_was_sent_its_points_is_not_replaced(one: OneQdrant) -> None:
    before = one.writes()
    releases.ensure_collections(one)  # type: ignore[arg-type]
    assert before > 0 and one.writes() > before and one.replaced == 0
